//! The way of a pull: sent, alive, over; and what its end says about its queue.

use super::pulls::Pull;
use super::{Command, Engine, Epoch, Millis, NeverStarted, PullId, QueueIx, Status};

impl Engine {
    /// Sends a pull, on a lane that must be free, for slots that must be free.
    pub(super) fn send_pull(&mut self, queue: QueueIx, batch: u32, expires: Millis) {
        let (now, config) = (self.now, &self.config);
        let state = &mut self.queues[queue.at()];
        let lane = state
            .pulls
            .free_lane()
            .expect("the sender looked for a lane");
        let pull = PullId::new(self.next_pull, queue, lane);
        self.next_pull += 1;
        let heartbeat = config.heartbeat_for(expires);
        self.slots.promise(batch);
        state.pulls.open_pull(Pull {
            id: pull,
            batch,
            remaining: batch,
            early_until: now + expires.fraction(1, 2),
            deadline: now + expires + config.pull_grace,
            silent_at: heartbeat.map(|_| now + config.heartbeat_missed()),
            doubted: false,
        });
        let epoch = self.epoch;
        self.commands.push_back(Command::Pull {
            epoch,
            lane,
            queue,
            pull,
            batch,
            expires,
            heartbeat,
        });
    }

    pub(super) fn on_status(&mut self, epoch: Epoch, pull: PullId, status: Status) {
        self.heard();
        if epoch != self.epoch || pull.queue().at() >= self.queues.len() {
            return;
        }
        match status {
            Status::Heartbeat => self.on_heartbeat(pull),
            Status::Expired { unfilled } => self.on_expired(pull, unfilled),
            Status::NeverStarted(
                NeverStarted::NoResponders | NeverStarted::WaitingFull | NeverStarted::NotSent,
            )
            | Status::Unknown => self.on_failed(pull, self.config.retry),
            Status::Refused => self.on_failed(pull, self.config.refused_retry),
            Status::Terminal => self.on_terminal(pull),
        }
    }

    fn on_heartbeat(&mut self, pull: PullId) {
        let silent_at = self.now + self.config.heartbeat_missed();
        let queue = &mut self.queues[pull.queue().at()];
        if let Some(pull) = queue.pulls.get_mut(pull) {
            pull.silent_at = pull.silent_at.map(|_| silent_at);
            queue.backoff.reset();
        }
    }

    fn on_expired(&mut self, pull: PullId, unfilled: Option<u32>) {
        let queue = &mut self.queues[pull.queue().at()];
        let Some(pull) = queue.pulls.end(pull) else {
            return;
        };
        self.slots.withdraw(pull.remaining);
        // Jobs that the server sent and that never arrived here; they come back by themselves.
        let lost = unfilled.map_or(0, |unfilled| pull.remaining.saturating_sub(unfilled));
        self.counters.jobs_lost_on_the_way += u64::from(lost);
        if self.now < pull.early_until {
            queue.backoff.fail(self.now, self.config.retry);
        } else {
            if queue.backlog > 0 {
                queue.window = 1;
            }
            queue.backlog = 0;
            queue.backoff.reset();
        }
    }

    fn on_failed(&mut self, pull: PullId, retry: (Millis, Millis)) {
        let queue = &mut self.queues[pull.queue().at()];
        let Some(pull) = queue.pulls.end(pull) else {
            return;
        };
        self.slots.withdraw(pull.remaining);
        queue.backoff.fail(self.now, retry);
        self.counters.pulls_failed += 1;
    }

    /// The consumer lost its leader or is gone: no pull sent before this one lives either. Later
    /// ones may have reached the new leader.
    fn on_terminal(&mut self, pull: PullId) {
        let queue = &mut self.queues[pull.queue().at()];
        let (ended, left) = queue
            .pulls
            .end_if(|other| other.id.serial() <= pull.serial());
        if ended > 0 {
            self.slots.withdraw(left);
            queue.backoff.fail(self.now, self.config.retry);
            self.counters.pulls_failed += u64::from(ended);
        }
    }

    /// Writes off the pulls that are past their deadline or silent, and leaves the epoch if it is
    /// silent as a whole.
    pub(super) fn write_off_overdue(&mut self) {
        let now = self.now;
        let mut written_off = 0;
        for queue in &mut self.queues {
            let lively = now < queue.lively_until;
            let (ended, left) = queue.pulls.end_if(|pull| {
                let silent = !lively && pull.silent_at.is_some_and(|silent_at| now >= silent_at);
                silent || now >= pull.deadline
            });
            self.slots.withdraw(left);
            written_off += ended;
        }
        self.counters.pulls_written_off += u64::from(written_off);
        if written_off > 0 && self.watchdog.is_epoch_silent(&self.config, now) {
            self.request_epoch();
        }
    }

    /// Writes off pulls that the server does not know: it said twice in a row that jobs wait and
    /// no pull does, with nothing arriving in between.
    pub(super) fn doubt_pulls(&mut self, queue: QueueIx, none_waits: bool) {
        let Some(queue) = self.queues.get_mut(queue.at()) else {
            return;
        };
        if none_waits {
            let (ended, left) = queue.pulls.end_if(|pull| pull.doubted);
            self.slots.withdraw(left);
            self.counters.pulls_written_off += u64::from(ended);
        }
        for pull in queue.pulls.iter_mut() {
            pull.doubted = none_waits;
        }
    }
}
