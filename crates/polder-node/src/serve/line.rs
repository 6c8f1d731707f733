//! One connection's state, written by whoever serves it and read by the watch over all of them.
//!
//! Plain atomic numbers: a request changes them a few times and never waits for anyone. Absent: what follows from them, which
//! is the gate's to say.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::Waker;

use futures_util::task::AtomicWaker;

use super::gate::Gate;
use super::refusal::Refusal;

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Nothing was said yet.
    Silent,
    /// A head has begun and is not whole.
    Head,
    /// A body comes.
    Body,
    /// A request was read and is being answered.
    Busy,
    /// Answered; the next request may come.
    Idle,
    /// About to be closed.
    Ending,
}

const PHASES: [Phase; 6] = [Phase::Silent, Phase::Head, Phase::Body, Phase::Busy, Phase::Idle, Phase::Ending];

/// What a connection is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Close, without a word.
    End,
    /// Say why, and close.
    Refuse(Refusal),
}

/// One connection.
pub struct Line {
    gate: Arc<Gate>,
    address: IpAddr,
    phase: AtomicU8,
    since_ms: AtomicU64,
    body_bytes: AtomicU64,
    /// Whether more was asked of the client than it has sent.
    hungry: AtomicBool,
    /// Since when the client takes nothing of what is to be written; 0 where it does.
    stalled_ms: AtomicU64,
    /// 0 for none, 1 for the end, 2 and more for a refusal.
    order: AtomicU8,
    cut: AtomicBool,
    /// Whether a request is with the service, whether its answer has begun, and whether another waits behind it.
    busy: AtomicBool,
    answered: AtomicBool,
    waiting: AtomicBool,
    waker: AtomicWaker,
}

impl Line {
    /// A connection that has just come.
    pub fn new(gate: Arc<Gate>, address: IpAddr) -> Self {
        Self {
            address,
            phase: AtomicU8::new(Phase::Silent as u8),
            since_ms: AtomicU64::new(gate.now_ms()),
            gate,
            body_bytes: AtomicU64::new(0),
            hungry: AtomicBool::new(false),
            stalled_ms: AtomicU64::new(0),
            order: AtomicU8::new(0),
            cut: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        }
    }

    /// Where it comes from.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// What it does, and since when by the gate's clock.
    pub fn phase(&self) -> Phase {
        PHASES.get(usize::from(self.phase.load(Relaxed))).copied().unwrap_or(Phase::Ending)
    }

    /// Since when it does that, by the gate's clock.
    pub fn since_ms(&self) -> u64 {
        self.since_ms.load(Relaxed)
    }

    /// Goes over to a state; one that it is in already goes on.
    pub fn enter(&self, phase: Phase) {
        if self.phase.swap(phase as u8, Relaxed) != phase as u8 {
            self.since_ms.store(self.gate.now_ms(), Relaxed);
            self.body_bytes.store(0, Relaxed);
        }
    }

    /// Counts bytes of a body.
    pub fn add_body(&self, bytes: usize) {
        self.body_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// How much of the body came.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Relaxed)
    }

    /// Says whether more was asked of the client than it has sent.
    pub fn set_hungry(&self, hungry: bool) {
        self.hungry.store(hungry, Relaxed);
    }

    /// Whether the client is what is waited for.
    pub fn hungry(&self) -> bool {
        self.hungry.load(Relaxed)
    }

    /// Says whether the client takes what is written.
    pub fn set_stalled(&self, stalled: bool) {
        match (stalled, self.stalled_ms.load(Relaxed)) {
            (true, 0) => self.stalled_ms.store(self.gate.now_ms(), Relaxed),
            (false, 1..) => self.stalled_ms.store(0, Relaxed),
            _ => {}
        }
    }

    /// Since when the client takes nothing.
    pub fn stalled_ms(&self) -> Option<u64> {
        Some(self.stalled_ms.load(Relaxed)).filter(|since| *since != 0)
    }

    /// Tells it what to do. The first word counts.
    pub fn order(&self, order: Order) {
        let number = match order {
            Order::End => 1,
            Order::Refuse(refusal) => 2 + refusal as u8,
        };
        if self.order.compare_exchange(0, number, Relaxed, Relaxed).is_err() && order == Order::End {
            self.order.store(1, Relaxed);
        }
        self.waker.wake();
    }

    /// What it was told to do.
    pub fn ordered(&self) -> Option<Order> {
        match self.order.load(Relaxed) {
            0 => None,
            1 => Some(Order::End),
            number => Some(Refusal::of_number(number - 2).map_or(Order::End, Order::Refuse)),
        }
    }

    /// Waits for an order.
    pub async fn until_ordered(&self) -> Order {
        std::future::poll_fn(|cx| {
            self.listen(cx.waker());
            self.ordered().map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }

    /// Waits for the order to end without a word more.
    pub async fn until_ended(&self) {
        std::future::poll_fn(|cx| {
            self.listen(cx.waker());
            match self.ordered() {
                Some(Order::End) => std::task::Poll::Ready(()),
                _ => std::task::Poll::Pending,
            }
        })
        .await;
    }

    /// Has whoever serves it woken by the next order.
    pub fn listen(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Cuts what is under way.
    pub fn cut(&self) {
        self.cut.store(true, Relaxed);
        self.waker.wake();
    }

    /// Whether what is under way is to be cut.
    pub fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    /// Whether the node drains, so that no request should follow.
    pub fn draining(&self) -> bool {
        self.gate.draining()
    }

    /// The service has a request.
    pub fn begin(&self) {
        self.busy.store(true, Relaxed);
        self.answered.store(false, Relaxed);
    }

    /// The service has begun to answer.
    pub fn answer(&self) {
        self.answered.store(true, Relaxed);
    }

    /// The answer was handed over whole, or nobody wants it any more.
    pub fn finish(&self) {
        self.busy.store(false, Relaxed);
        if self.phase() == Phase::Busy {
            self.enter(Phase::Idle);
        }
        if self.waiting.swap(false, Relaxed) {
            self.waker.wake();
        }
    }

    /// Whether a request is with the service.
    pub fn busy(&self) -> bool {
        self.busy.load(Relaxed)
    }

    /// Whether a word of this node's own would come in the middle of an answer.
    pub fn in_answer(&self) -> bool {
        (self.busy() && self.answered.load(Relaxed)) || self.stalled_ms().is_some()
    }

    /// Another request waits until this one is answered.
    pub fn wait(&self) {
        self.waiting.store(true, Relaxed);
    }
}
