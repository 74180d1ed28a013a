//! Counts the readers that have caught up, so that nobody leads before it knows what there is.

use tokio::sync::watch;

/// One reader's part.
#[derive(Debug)]
pub(crate) struct Started {
    left: watch::Sender<usize>,
    done: bool,
}

/// Waits for all of them.
#[derive(Debug, Clone)]
pub(crate) struct Start(watch::Receiver<usize>);

/// As many parts as there are readers, and what waits for them.
pub(crate) fn parts<const N: usize>() -> ([Started; N], Start) {
    let (left, start) = watch::channel(N);
    let parts = std::array::from_fn(|_| Started {
        left: left.clone(),
        done: false,
    });
    (parts, Start(start))
}

impl Started {
    /// This reader has caught up.
    pub(crate) fn done(&mut self) {
        if !std::mem::replace(&mut self.done, true) {
            self.left.send_modify(|left| *left -= 1);
        }
    }
}

impl Start {
    /// Whether all have.
    pub(crate) fn is_done(&self) -> bool {
        *self.0.borrow() == 0
    }

    /// Waits until all have.
    pub(crate) async fn wait(&mut self) {
        // An error means that all readers have ended, and with them the process.
        let _ = self.0.wait_for(|left| *left == 0).await;
    }
}
