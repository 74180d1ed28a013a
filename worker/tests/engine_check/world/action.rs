//! What may happen next.

use std::collections::VecDeque;

use repull_worker::engine::{Epoch, Lane, Millis, NeverStarted, QueueIx, Seq, Status, Verdict};

use super::World;
use crate::server::Place;

/// One thing that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Serve(QueueIx),
    Receive(Epoch, Lane),
    /// All that is on its way arrives in the same turn.
    ReceiveAll,
    Hear,
    Finish(Seq, Verdict),
    /// Every handler ends in the same turn.
    FinishAll,
    Tick,
    /// Time passes until something is due.
    Pass,
    OpenEpoch {
        late_arrive: bool,
    },
    LosePull(QueueIx, usize),
    LoseDown(Epoch, Lane),
    LoseAnswer,
    LoseNextSending,
    EndPull(QueueIx, usize, Status),
    Reconnect {
        late_arrive: bool,
    },
    /// Nothing passes in either direction any more, and nobody says so.
    Cut,
    /// The client notices that.
    Notice,
    /// A new connection stands.
    Mend,
    Sleep(Millis),
    OtherTakes(Seq),
    OtherAcks(Seq),
    Pause(QueueIx),
    Resume(QueueIx),
    Cancel(Seq),
    Drain,
    StopNow,
}

impl World {
    /// Everything that may happen now.
    pub(crate) fn actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.stopped || self.exited {
            return actions;
        }
        actions.extend(
            self.queues()
                .filter(|q| self.can_serve(*q))
                .map(Action::Serve),
        );
        actions.extend(
            self.down
                .keys()
                .map(|(epoch, lane)| Action::Receive(*epoch, *lane)),
        );
        if self.down.values().map(VecDeque::len).sum::<usize>() > 1 {
            actions.push(Action::ReceiveAll);
        }
        if !self.answers.is_empty() {
            actions.push(Action::Hear);
        }
        for (seq, handler) in &self.handlers {
            actions.push(Action::Finish(*seq, Verdict::Settle));
            if handler.cancelled {
                actions.push(Action::Finish(*seq, Verdict::HandBack));
            }
        }
        if self.handlers.len() > 1 {
            actions.push(Action::FinishAll);
        }
        if self.is_tick_due() {
            actions.push(Action::Tick);
        }
        if self.next_moment().is_some() {
            actions.push(Action::Pass);
        }
        if self.asked_epoch && !self.cut {
            actions.push(Action::OpenEpoch { late_arrive: false });
            actions.push(Action::OpenEpoch { late_arrive: true });
        }
        let others = self.server.jobs.iter();
        let others = others.filter(|(_, job)| matches!(job.place, Place::Others(_)));
        actions.extend(others.map(|(seq, _)| Action::OtherAcks(*seq)));
        self.push_orders(&mut actions);
        self.push_faults(&mut actions);
        actions
    }

    /// What people may do.
    fn push_orders(&self, actions: &mut Vec<Action>) {
        for queue in self.queues() {
            if self.paused[usize::from(queue.0)] {
                actions.push(Action::Resume(queue));
            } else if self.budget.pauses > 0 {
                actions.push(Action::Pause(queue));
            }
        }
        for (seq, handler) in &self.handlers {
            if self.budget.cancels > 0 && !handler.cancelled {
                actions.push(Action::Cancel(*seq));
            }
            if self.budget.abandons > 0 {
                actions.push(Action::Finish(*seq, Verdict::Abandon));
            }
        }
        if self.budget.drains > 0 {
            actions.push(Action::Drain);
        }
        if self.budget.stops > 0 {
            actions.push(Action::StopNow);
        }
    }

    fn push_faults(&self, actions: &mut Vec<Action>) {
        if self.budget.reconnects > 0 {
            actions.push(Action::Reconnect { late_arrive: false });
            actions.push(Action::Reconnect { late_arrive: true });
        }
        if self.cut {
            actions.push(Action::Mend);
            actions.extend((!self.noticed).then_some(Action::Notice));
        }
        if self.budget.faults == 0 {
            return;
        }
        actions.extend((!self.cut).then_some(Action::Cut));
        for queue in self.queues() {
            for index in 0..self.waiting(queue).len() {
                actions.push(Action::LosePull(queue, index));
                for status in [
                    Status::Terminal,
                    Status::NeverStarted(NeverStarted::NoResponders),
                    Status::Refused,
                    Status::Unknown,
                    Status::Expired { unfilled: None },
                ] {
                    actions.push(Action::EndPull(queue, index, status));
                }
            }
            actions.extend(self.server.first_ready(queue).map(Action::OtherTakes));
        }
        actions.extend(
            self.down
                .keys()
                .map(|(epoch, lane)| Action::LoseDown(*epoch, *lane)),
        );
        if !self.answers.is_empty() {
            actions.push(Action::LoseAnswer);
        }
        if !self.lose_next {
            actions.push(Action::LoseNextSending);
        }
        let lease = self.server.ack_wait;
        actions.push(Action::Sleep(lease.fraction(1, 2) + Millis(1)));
        actions.push(Action::Sleep(lease + Millis(1)));
    }
}
