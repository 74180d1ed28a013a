//! The open pulls of one queue, and what each may still bring.
//!
//! A data message does not name its pull, and a pull that is filled exactly ends without any word.
//! So each pull has a lane, a subscription of its own while it is open: the lane on which a job
//! arrives tells the pull, what each may still bring is known exactly, and a pull that is lost
//! takes with it exactly what it had left, however busy the queue is with others.

use super::{Lane, Millis, PullId};

/// One open pull.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pull {
    pub(super) id: PullId,
    /// Jobs it asked for.
    pub(super) batch: u32,
    /// Jobs it may still bring; never zero.
    pub(super) remaining: u32,
    /// An end without a full batch before this moment is too early to be an expiry.
    pub(super) early_until: Millis,
    /// When it is written off without a word from the server.
    pub(super) deadline: Millis,
    /// When its silence counts as missed heartbeats; moved by each sign of life.
    pub(super) silent_at: Option<Millis>,
    /// Seen open here while the server said that no pull waits although jobs do.
    pub(super) doubted: bool,
}

/// What a job that arrived was to its queue's pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// No open pull had asked for it.
    Unpromised,
    /// A pull had asked for it, and for more.
    Promised,
    /// It was the last of so many that a pull had asked for.
    Filled(u32),
}

/// The open pulls of a queue, by lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pulls {
    lanes: Vec<Option<Pull>>,
    promised: u32,
}

impl Pulls {
    pub(super) fn new(lanes: u32) -> Self {
        Self {
            lanes: vec![None; lanes as usize],
            promised: 0,
        }
    }

    /// Jobs that the open pulls may still bring.
    pub(super) fn promised(&self) -> u32 {
        self.promised
    }

    /// Number of open pulls.
    pub(super) fn open(&self) -> u32 {
        self.iter().count() as u32
    }

    pub(super) fn is_empty(&self) -> bool {
        self.promised == 0
    }

    pub(super) fn free_lane(&self) -> Option<Lane> {
        self.lanes
            .iter()
            .position(Option::is_none)
            .map(|lane| Lane(lane as u8))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Pull> {
        self.lanes.iter().flatten()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pull> {
        self.lanes.iter_mut().flatten()
    }

    pub(super) fn get_mut(&mut self, id: PullId) -> Option<&mut Pull> {
        self.lanes
            .get_mut(usize::from(id.lane().0))?
            .as_mut()
            .filter(|pull| pull.id == id)
    }

    /// Notes a pull that is being sent on a free lane.
    pub(super) fn open_pull(&mut self, pull: Pull) {
        self.promised += pull.remaining;
        let lane = &mut self.lanes[usize::from(pull.id.lane().0)];
        assert!(lane.is_none(), "lane of {:?} is taken", pull.id);
        *lane = Some(pull);
    }

    /// Counts a job that arrived on a lane.
    pub(super) fn take(&mut self, lane: Lane, silent_at: Millis) -> Taken {
        let Some(slot) = self.lanes.get_mut(usize::from(lane.0)) else {
            return Taken::Unpromised;
        };
        let Some(pull) = slot else {
            return Taken::Unpromised;
        };
        pull.remaining -= 1;
        pull.doubted = false;
        pull.silent_at = pull.silent_at.map(|_| silent_at);
        self.promised -= 1;
        if pull.remaining > 0 {
            return Taken::Promised;
        }
        let batch = pull.batch;
        *slot = None;
        Taken::Filled(batch)
    }

    /// Ends a pull; what it had left is the caller's to withdraw.
    pub(super) fn end(&mut self, id: PullId) -> Option<Pull> {
        let slot = self.lanes.get_mut(usize::from(id.lane().0))?;
        let pull = slot.take_if(|pull| pull.id == id)?;
        self.promised -= pull.remaining;
        Some(pull)
    }

    /// Ends every pull that `over` tells; returns how many, and what they had left.
    pub(super) fn end_if(&mut self, over: impl Fn(&Pull) -> bool) -> (u32, u32) {
        let (mut ended, mut left) = (0, 0);
        for slot in &mut self.lanes {
            if let Some(pull) = slot.take_if(|pull| over(pull)) {
                ended += 1;
                left += pull.remaining;
            }
        }
        self.promised -= left;
        (ended, left)
    }
}

#[cfg(test)]
mod tests {
    use super::super::QueueIx;
    use super::*;

    fn pull(serial: u64, lane: u8, batch: u32) -> Pull {
        Pull {
            id: PullId::new(serial, QueueIx(0), Lane(lane)),
            batch,
            remaining: batch,
            early_until: Millis(0),
            deadline: Millis(100),
            silent_at: None,
            doubted: false,
        }
    }

    #[test]
    fn a_filled_pull_ends_without_a_word_and_frees_its_lane() {
        let mut pulls = Pulls::new(2);
        pulls.open_pull(pull(1, 0, 2));
        assert_eq!(pulls.take(Lane(0), Millis(0)), Taken::Promised);
        assert_eq!(pulls.free_lane(), Some(Lane(1)));
        assert_eq!(pulls.take(Lane(0), Millis(0)), Taken::Filled(2));
        assert_eq!((pulls.free_lane(), pulls.promised()), (Some(Lane(0)), 0));
        assert_eq!(pulls.take(Lane(0), Millis(0)), Taken::Unpromised);
    }

    #[test]
    fn jobs_are_counted_against_their_own_pull() {
        let mut pulls = Pulls::new(2);
        pulls.open_pull(pull(1, 0, 5));
        pulls.open_pull(pull(2, 1, 3));
        for _ in 0..3 {
            pulls.take(Lane(1), Millis(0));
        }
        let lost = pulls.end(PullId::new(1, QueueIx(0), Lane(0))).unwrap();
        assert_eq!((lost.remaining, pulls.promised()), (5, 0));
    }

    #[test]
    fn the_end_of_an_older_pull_does_not_touch_the_one_on_its_lane_now() {
        let mut pulls = Pulls::new(1);
        pulls.open_pull(pull(1, 0, 1));
        pulls.take(Lane(0), Millis(0));
        pulls.open_pull(pull(2, 0, 4));
        assert_eq!(pulls.end(PullId::new(1, QueueIx(0), Lane(0))), None);
        assert_eq!(pulls.promised(), 4);
    }

    #[test]
    fn a_lane_that_does_not_exist_promises_nothing() {
        assert_eq!(Pulls::new(1).take(Lane(9), Millis(0)), Taken::Unpromised);
    }
}
