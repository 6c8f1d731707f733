//! Tests of the books: sums stay zero, an id is posted once, and nobody gives what they have not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;

fn award() -> AwardId {
    AwardId::parse("euro-hpc-7").unwrap()
}

fn entry(id: u8, from: Account, to: Account, microeur: u64) -> Entry {
    Entry::transfer(EntryId::Moved(Nonce([id; 16])), award(), from, to, microeur).unwrap()
}

fn bank() -> Account {
    Account::Tenant(TenantId::parse("bank").unwrap())
}

#[test]
fn money_moves_and_the_sum_stays_zero() {
    let mut books = Books::default();
    assert_eq!(books.post(&entry(1, Account::Outside, Account::Award, 100)), Ok(true));
    assert_eq!(books.post(&entry(2, Account::Award, bank(), 60)), Ok(true));
    assert_eq!(books.balance(&award(), &Account::Award), 40);
    assert_eq!(books.balance(&award(), &bank()), 60);
    assert_eq!(books.balance(&award(), &Account::Outside), -100);
    assert_eq!(books.sum(), 0);
}

#[test]
fn an_id_is_posted_once() {
    let mut books = Books::default();
    let first = entry(1, Account::Outside, Account::Award, 100);
    assert_eq!(books.post(&first), Ok(true));
    assert_eq!(books.post(&first), Ok(false));
    assert_eq!(books.check(&first), Ok(()));
    assert_eq!(books.post(&entry(1, Account::Outside, Account::Award, 50)), Err(BooksError::Changed));
    assert_eq!(books.balance(&award(), &Account::Award), 100);
}

#[test]
fn nobody_gives_what_they_have_not() {
    let mut books = Books::default();
    books.post(&entry(1, Account::Outside, Account::Award, 100)).unwrap();
    let before = books.clone();
    assert_eq!(books.post(&entry(2, Account::Award, bank(), 101)), Err(BooksError::Short(1)));
    // The same account twice in one entry counts together.
    let twice = Entry {
        id: EntryId::Moved(Nonce([3; 16])),
        award: award(),
        postings: vec![
            Posting { account: Account::Award, microeur: -60 },
            Posting { account: Account::Award, microeur: -60 },
            Posting { account: bank(), microeur: 120 },
        ],
    };
    assert_eq!(books.post(&twice), Err(BooksError::Short(20)));
    assert_eq!(books, before);
}

#[test]
fn an_entry_that_makes_money_is_refused() {
    let mut books = Books::default();
    let made = Entry {
        id: EntryId::Moved(Nonce([1; 16])),
        award: award(),
        postings: vec![Posting { account: Account::Award, microeur: 1 }],
    };
    assert_eq!(books.post(&made), Err(BooksError::Unbalanced));
    assert_eq!(Entry::transfer(made.id, award(), Account::Outside, bank(), u64::MAX), Err(BooksError::Overflow));
    assert_eq!(books, Books::default());
}

#[test]
fn kept_entries_make_the_same_books_in_any_order() {
    let mut books = Books::default();
    let entries = [
        entry(9, Account::Outside, Account::Award, 100),
        entry(2, Account::Award, bank(), 60),
        entry(1, bank(), Account::Award, 60),
    ];
    entries.iter().for_each(|one| assert!(books.post(one).unwrap()));
    assert_eq!(Books::load(books.entries().cloned()), Ok(books));
    assert_eq!(Books::load([entries[1].clone()]), Err(BooksError::Short(60)));
}
