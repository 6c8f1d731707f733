//! A drill over receipts: logs are read where `polder audit` reads them, and every decision is made again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use polder_core::statement::v1::Statement;
use polder_twin::drill::book::Book;
use polder_twin::drill::loss::Loss;
use polder_twin::drill::{Drill, rehearse};

use super::Arguments;
use crate::commands::audit::{Source, gather, now_ms};
use crate::commands::twin::progress;
use crate::failure::Failure;

pub(super) async fn run(arguments: &Arguments, losses: Vec<Loss>, stop: Arc<AtomicBool>) -> Result<Drill, Failure> {
    let mut book = read(arguments.logs.sources()?).await?;
    book.close(now_ms().saturating_sub(arguments.days.saturating_mul(86_400_000)));
    if book.decisions.is_empty() {
        let message = format!("no decision of the last {} days was read", arguments.days);
        return Err(Failure::new(message).hint("name the logs of homes, or a longer time with --days"));
    }
    let patience_ms = arguments.patience * 1_000;
    let work = move || {
        let (count, mut bar) = (book.decisions.len() as u64, progress::Bar::new(Instant::now()));
        let mut look = |done: usize| {
            bar.show(done as u64, count, "decisions");
            !stop.load(Ordering::Relaxed)
        };
        rehearse(&book, &losses, patience_ms, &mut look)
    };
    tokio::task::spawn_blocking(work).await.map_err(|e| Failure::new(format!("the drill ended by itself: {e}")))
}

/// Everything that logs show.
pub(super) async fn read(sources: Vec<Source>) -> Result<Book, Failure> {
    let mut book = Book::default();
    for source in sources {
        let name = source.name.clone();
        if !source.shows_statements() {
            let message = format!("`{name}` shows no statements, and those are what is decided again");
            return Err(
                Failure::new(message).hint("give --token for URLs, or name sockets or files of `polder audit export`")
            );
        }
        book.places.extend(source.places().await);
        let exported = match source.into_file() {
            Ok(file) => *file,
            Err(source) => {
                gather(&source).await.map_err(|says| Failure::new(format!("`{name}` cannot be read: {says}")))?
            }
        };
        for row in exported.statements {
            let statement: Statement = serde_json::from_str(&row.statement).map_err(|e| {
                Failure::new(format!("`{name}`, leaf {}: its statement is not understood: {e}", row.index))
            })?;
            book.take(statement);
        }
        book.objects.extend(exported.objects.into_iter().map(|one| (one.digest, one.text.into_bytes())));
    }
    Ok(book)
}
