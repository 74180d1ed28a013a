//! Which queue gets the free slots: decided once per turn.
//!
//! A worker with one queue asks it for everything that is free, with a long pull. With several
//! queues over one pool, a slot promised to a queue is kept from the others, so:
//!
//! - A queue known to have a backlog is *hot* and is promised as many slots as it has jobs, by
//!   order or by weight, with short pulls: what it turns out not to need comes back soon.
//! - While a queue is hot, the idle ones are *probed*: now and then a pull that lives for a few
//!   milliseconds asks them for what they have. An empty or paused queue so hardly holds a slot,
//!   and a queue that gets jobs is found within `probe_interval`. (The server has a kind of pull
//!   that does not wait at all, but at a queue that is at its ack-pending limit it waits for ever.)
//! - When the hot queues have what they can use, each idle queue is watched by a *sentinel*, a
//!   small pull that waits; other free slots stay in reserve. The first job that arrives tells
//!   whether there are more. With fewer free slots than queues the sentinels are short and rotate.

use super::{Engine, Millis, Order, QueueIx};

/// Into how many portions all slots are dealt where several queues have a backlog.
const PORTIONS: u32 = 16;

impl Engine {
    /// Promises free slots to pulls.
    pub(super) fn refill(&mut self) {
        if self.drain.is_some() || self.slots.free() == 0 || self.is_held() {
            return;
        }
        if self.queues.len() == 1 {
            self.pull_everything();
        } else {
            self.probe_idle_queues();
            if !self.serve_hot_queues() {
                self.post_sentinels();
            }
        }
    }

    /// Pulls wait for something that has its own timer: a new epoch, or settling jobs.
    fn is_held(&self) -> bool {
        self.settling.active() >= self.config.settling_max as usize
            || self.hold_until.is_some_and(|until| self.now < until)
    }

    /// Whether a timer is armed that will open a pull when it is due, although none is open now.
    pub(super) fn is_pull_armed(&self) -> bool {
        let retries = self.queues.iter().filter(|queue| !queue.paused);
        self.hold_until.is_some_and(|until| self.now < until)
            || self.settling.next_due().is_some()
            || retries
                .filter_map(|queue| queue.backoff.until)
                .any(|until| self.now < until)
    }

    fn pull_everything(&mut self) {
        let queue = &self.queues[0];
        if queue.is_eligible(self.now) && queue.pulls.free_lane().is_some() {
            let expires = self.config.pull_expires;
            self.send_pull(QueueIx(0), self.slots.free(), expires);
        }
    }

    /// Looks at the idle queues that hot ones would otherwise hide: all of them by weight, those
    /// ahead of the first hot one in strict order.
    fn probe_idle_queues(&mut self) {
        let now = self.now;
        let Some(first_hot) = self.queues.iter().position(|queue| queue.is_hot(now)) else {
            return;
        };
        let end = match self.config.order {
            Order::Strict => first_hot,
            Order::Weighted => self.queues.len(),
        };
        let is_due = |engine: &Self, index: usize| {
            let queue = &engine.queues[index];
            queue.backlog == 0
                && queue.is_eligible(now)
                && queue.pulls.is_empty()
                && now >= queue.probe_at
        };
        let due = (0..end).filter(|index| is_due(self, *index)).count() as u32;
        if due == 0 {
            return;
        }
        let expires = self.config.probe_expires;
        let probe_at = now + self.probe_interval(end as u32);
        let batch = (self.slots.free() / (due + 1)).max(1);
        for index in 0..end {
            if self.slots.free() > 0 && is_due(self, index) {
                self.queues[index].probe_at = probe_at;
                let batch = batch.min(self.queues[index].window);
                self.send_pull(QueueIx(index as u16), batch, expires);
            }
        }
    }

    /// Probes of so many queues, each taking a slot for a moment, leave nine tenths of the slots to
    /// the hot ones.
    fn probe_interval(&self, queues: u32) -> Millis {
        let taken = self.config.probe_expires * u64::from(queues) * 10;
        self.config
            .probe_interval
            .max(taken.fraction(1, u64::from(self.slots.total())))
    }

    /// Deals the free slots out to the hot queues. True if they could use more than there is, or
    /// more than their lanes carry at the moment.
    fn serve_hot_queues(&mut self) -> bool {
        match self.config.order {
            Order::Strict => self.deal_in_order(),
            Order::Weighted => self.deal_by_weight(),
        }
        let (now, expires) = (self.now, self.config.short_expires);
        let mut more = false;
        for index in 0..self.queues.len() {
            let batch = std::mem::take(&mut self.queues[index].planned);
            if batch > 0 {
                self.send_pull(QueueIx(index as u16), batch, expires);
            }
            more |= self.queues[index].is_hot(now) && self.queues[index].wants() > 0;
        }
        more
    }

    fn deal_in_order(&mut self) {
        let (now, mut free) = (self.now, self.slots.free());
        for queue in self.queues.iter_mut().filter(|queue| queue.is_hot(now)) {
            if queue.pulls.free_lane().is_some() {
                queue.planned = queue.wants().min(free);
                free -= queue.planned;
            }
        }
    }

    /// Smooth weighted round robin: each portion goes to the queue that is furthest behind its share.
    /// Slot by slot would be the smoothest, and would make a pull and a confirmation of every job where
    /// there are many queues.
    fn deal_by_weight(&mut self) {
        let portion = (self.slots.total() / PORTIONS).max(1);
        let mut free = self.slots.free();
        while free > 0 {
            let Some((best, total)) = self.furthest_behind() else {
                break;
            };
            let dealt = portion.min(self.queues[best].wants()).min(free);
            for index in 0..self.queues.len() {
                if self.can_be_dealt(index) {
                    self.queues[index].credit += self.weight(index) * i64::from(dealt);
                }
            }
            self.queues[best].credit -= total * i64::from(dealt);
            self.queues[best].planned += dealt;
            free -= dealt;
        }
    }

    /// The queue whose balance would be the highest with one more slot dealt, and the weight of all
    /// that can be dealt one.
    fn furthest_behind(&self) -> Option<(usize, i64)> {
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for index in (0..self.queues.len()).filter(|index| self.can_be_dealt(*index)) {
            let weight = self.weight(index);
            total += weight;
            let credit = self.queues[index].credit + weight;
            if best.is_none_or(|(_, highest)| credit > highest) {
                best = Some((index, credit));
            }
        }
        best.map(|(index, _)| (index, total))
    }

    fn can_be_dealt(&self, index: usize) -> bool {
        let queue = &self.queues[index];
        queue.is_hot(self.now) && queue.wants() > 0 && queue.pulls.free_lane().is_some()
    }

    fn weight(&self, index: usize) -> i64 {
        i64::from(self.config.queues[index].weight)
    }

    /// Puts a small waiting pull on each queue that has none.
    fn post_sentinels(&mut self) {
        let (now, count) = (self.now, self.queues.len());
        let eligible = self.queues.iter().filter(|queue| queue.is_eligible(now));
        let eligible = eligible.count() as u32;
        let needs = |queue: &super::queue::Queue| queue.is_eligible(now) && queue.pulls.is_empty();
        let mut needy = self.queues.iter().filter(|queue| needs(queue)).count() as u32;
        let size = (self.slots.total() / (4 * count as u32)).max(1);
        let expires = self.sentinel_expires(eligible);
        let first = self.rotation;
        for index in (0..count).map(|offset| (first + offset) % count) {
            let free = self.slots.free();
            if free == 0 {
                break;
            }
            if needs(&self.queues[index]) {
                // One at least is left for each queue still to come.
                let batch = size.min(free.saturating_sub(needy - 1)).max(1);
                needy -= 1;
                self.rotation = (index + 1) % count;
                self.send_pull(QueueIx(index as u16), batch, expires);
            }
        }
    }

    /// The scarcer the slots, the shorter a queue may keep one without having a job for it.
    fn sentinel_expires(&self, eligible: u32) -> Millis {
        let (short, long) = (self.config.short_expires, self.config.sentinel_expires);
        let idle = self.slots.idle();
        if idle < eligible {
            short
        } else if idle < eligible * 2 {
            (short * 4).min(long)
        } else {
            long
        }
    }
}
