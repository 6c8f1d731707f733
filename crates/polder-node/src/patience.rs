//! Time limits on what nearly always ends long before them.
//!
//! A timer that is made and taken away for each request costs a lock, and often wakes the thread that waits for the next event.
//! Here a thread keeps its timers and pushes them back, which is one atomic number. Short waits that do end are absent: those are
//! the runtime's own.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, Sleep, sleep_until};

/// Most timers that a thread keeps.
const KEPT_MAX: usize = 256;

/// The timers that nobody uses now, and the runtime that they belong to.
type Kept = (Option<Id>, Vec<Pin<Box<Sleep>>>);

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new((None, Vec::new())) };
}

/// A timer in use. Dropping it keeps it for the next.
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn of(limit: Duration) -> Self {
        let until = Instant::now() + limit;
        let runtime = Handle::try_current().ok().map(|handle| handle.id());
        let kept = KEPT.with_borrow_mut(|(owner, kept)| {
            // A timer works only in the runtime that it was made in.
            if *owner != runtime {
                (*owner, *kept) = (runtime, Vec::new());
            }
            kept.pop()
        });
        match kept {
            Some(mut timer) => {
                timer.as_mut().reset(until);
                Self(Some(timer))
            }
            None => Self(Some(Box::pin(sleep_until(until)))),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Ready(()), |timer| timer.as_mut().poll(cx))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let Some(timer) = self.0.take() else { return };
        let runtime = Handle::try_current().ok().map(|handle| handle.id());
        // A thread that ends has no place for it any more.
        let _ = KEPT.try_with(|kept| {
            let Ok(mut kept) = kept.try_borrow_mut() else { return };
            if kept.0.is_some() && kept.0 == runtime && kept.1.len() < KEPT_MAX {
                kept.1.push(timer);
            }
        });
    }
}

/// What came of it within a limit; `None` where nothing did.
pub async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut timer = None;
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        // What is through at once needs no timer.
        Poll::Pending => timer.get_or_insert_with(|| Timer::of(limit)).poll(cx).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::{pending, ready};

    use super::*;

    fn kept() -> usize {
        KEPT.with_borrow(|(_, kept)| kept.len())
    }

    #[tokio::test]
    async fn what_ends_in_time_ends_and_what_does_not_is_given_up_at_its_limit() {
        let ms = Duration::from_millis;
        assert_eq!(within(ms(1_000), ready(7)).await, Some(7));
        assert_eq!(kept(), 0, "nothing was waited for");
        // The kept timer is used again, for a longer limit and for a shorter one than it had left.
        for (limit, takes) in [(5_000, 20), (9_000, 20), (2_000, 20)] {
            assert_eq!(within(ms(limit), tokio::time::sleep(ms(takes))).await, Some(()));
            assert_eq!(kept(), 1);
        }
        let begun = Instant::now();
        assert_eq!(within(ms(30), pending::<()>()).await, None);
        assert!((ms(30)..ms(1_500)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(kept(), 1);
    }

    #[test]
    fn a_runtime_does_not_get_the_timers_of_another() {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let waited = runtime.block_on(within(Duration::from_millis(5), pending::<()>()));
            assert_eq!(waited, None);
        }
    }
}
