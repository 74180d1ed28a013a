//! A model of the work-queue stream and its consumers: what is ready, what is leased to whom, which
//! pulls wait. Serves pulls round robin, takes any ack for the sequence it names (like the real
//! one), and gives a lease that runs out to the next pull.

use std::collections::BTreeMap;

use repull_worker::engine::{Backlog, Epoch, Lane, Millis, PullId, QueueIx, Seq};

/// Where a job is, by the server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Ready,
    /// Delivered to the worker under test, its own until the moment given.
    Ours(Millis),
    /// Delivered to another worker, that worker's until the moment given.
    Others(Millis),
    Acked,
}

/// A job in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(crate) queue: QueueIx,
    pub(crate) place: Place,
    /// It was handed back: a copy of it is stored behind it.
    pub(crate) copied: bool,
    pub(crate) deliveries: u32,
}

/// A pull that waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Waiting {
    pub(crate) epoch: Epoch,
    pub(crate) lane: Lane,
    pub(crate) pull: PullId,
    pub(crate) left: u32,
    pub(crate) ends_at: Millis,
    /// Interval and next time of its heartbeat.
    pub(crate) heartbeat: Option<(Millis, Millis)>,
}

/// The server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) ack_wait: Millis,
    pub(crate) jobs: BTreeMap<Seq, Stored>,
    /// Waiting pulls by queue, the next to be served first.
    pub(crate) waiting: Vec<Vec<Waiting>>,
    next_seq: u64,
}

impl Server {
    pub(crate) fn new(ack_wait: Millis, jobs: &[u32]) -> Self {
        let waiting = vec![Vec::new(); jobs.len()];
        let mut server = Self {
            ack_wait,
            jobs: BTreeMap::new(),
            waiting,
            next_seq: 1,
        };
        for (index, count) in jobs.iter().enumerate() {
            for _ in 0..*count {
                server.publish(QueueIx(index as u16));
            }
        }
        server
    }

    pub(crate) fn publish(&mut self, queue: QueueIx) {
        let job = Stored {
            queue,
            place: Place::Ready,
            copied: false,
            deliveries: 0,
        };
        self.jobs.insert(Seq(self.next_seq), job);
        self.next_seq += 1;
    }

    pub(crate) fn first_ready(&self, queue: QueueIx) -> Option<Seq> {
        let is_ready = |job: &Stored| job.queue == queue && job.place == Place::Ready;
        self.jobs
            .iter()
            .find(|(_, job)| is_ready(job))
            .map(|(seq, _)| *seq)
    }

    pub(crate) fn backlog(&self, queue: QueueIx) -> Backlog {
        let of_queue = || self.jobs.values().filter(|job| job.queue == queue);
        let is_leased = |job: &&Stored| matches!(job.place, Place::Ours(_) | Place::Others(_));
        Backlog {
            pending: of_queue().filter(|job| job.place == Place::Ready).count() as u64,
            ack_pending: of_queue().filter(is_leased).count() as u64,
            waiting: self.waiting[usize::from(queue.0)].len() as u64,
            ..Backlog::default()
        }
    }

    /// Gives the next job of a queue to the next pull. Returns the pull's place, the job, how
    /// often it was delivered and how many wait behind it.
    pub(crate) fn serve(
        &mut self,
        now: Millis,
        queue: QueueIx,
    ) -> Option<(Epoch, Lane, Seq, u32, u64)> {
        let seq = self.first_ready(queue)?;
        let waiting = &mut self.waiting[usize::from(queue.0)];
        if waiting.is_empty() {
            return None;
        }
        let mut pull = waiting.remove(0);
        let (epoch, lane) = (pull.epoch, pull.lane);
        pull.left -= 1;
        if let Some((interval, next)) = &mut pull.heartbeat {
            *next = now + *interval;
        }
        if pull.left > 0 {
            waiting.push(pull);
        }
        let until = now + self.ack_wait;
        let job = self.jobs.get_mut(&seq).expect("a ready job is stored");
        job.place = Place::Ours(until);
        job.deliveries += 1;
        let deliveries = job.deliveries;
        Some((epoch, lane, seq, deliveries, self.backlog(queue).pending))
    }

    /// Any ack counts, also a stale one: explicit acks match on the sequence only.
    pub(crate) fn ack(&mut self, seq: Seq) {
        if let Some(job) = self.jobs.get_mut(&seq) {
            job.place = Place::Acked;
        }
    }

    /// A job that is put on its queue again, once however often it is said, and then acked.
    pub(crate) fn hand_back(&mut self, seq: Seq) {
        let Some(job) = self.jobs.get_mut(&seq) else {
            return;
        };
        let queue = job.queue;
        job.place = Place::Acked;
        if !std::mem::replace(&mut job.copied, true) {
            self.publish(queue);
        }
    }

    /// A NAK: the job is ready again at once.
    pub(crate) fn nak(&mut self, seq: Seq) {
        if let Some(job) = self.jobs.get_mut(&seq)
            && matches!(job.place, Place::Ours(_) | Place::Others(_))
        {
            job.place = Place::Ready;
        }
    }

    /// A keep-alive: whoever holds the job holds it for longer.
    pub(crate) fn extend(&mut self, now: Millis, seq: Seq) {
        let extended = now + self.ack_wait;
        if let Some(job) = self.jobs.get_mut(&seq)
            && let Place::Ours(until) | Place::Others(until) = &mut job.place
        {
            *until = extended;
        }
    }

    /// Leases that are over give their jobs back.
    pub(crate) fn lapse(&mut self, now: Millis) {
        for job in self.jobs.values_mut() {
            if let Place::Ours(until) | Place::Others(until) = job.place
                && now >= until
            {
                job.place = Place::Ready;
            }
        }
    }

    /// The next moment at which something happens by itself.
    pub(crate) fn next_event(&self) -> Option<Millis> {
        let leases = self.jobs.values().filter_map(|job| match job.place {
            Place::Ours(until) | Place::Others(until) => Some(until),
            Place::Ready | Place::Acked => None,
        });
        let pulls = self.waiting.iter().flatten();
        let beats = pulls
            .clone()
            .filter_map(|pull| pull.heartbeat.map(|(_, next)| next));
        leases
            .chain(pulls.map(|pull| pull.ends_at))
            .chain(beats)
            .min()
    }
}
