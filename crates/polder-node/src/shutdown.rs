//! Stopping: one signal that every part of a node waits for.

use tokio::sync::watch;

/// Tells when to stop. Clones hear the same signal.
#[derive(Clone)]
pub struct Shutdown(watch::Receiver<bool>);

/// Gives the signal; dropping it gives it too.
pub struct Stop(watch::Sender<bool>);

/// A signal and its listener.
pub fn channel() -> (Stop, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Shutdown(receiver))
}

impl Stop {
    /// Tells everyone to stop.
    pub fn now(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Returns once it is time to stop.
    pub async fn wait(&mut self) {
        // An error means that nobody is left to give the signal, which is the signal.
        drop(self.0.wait_for(|stop| *stop).await);
    }
}
