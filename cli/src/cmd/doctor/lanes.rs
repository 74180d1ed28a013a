//! Lanes of queues: jobs that wait although they could run. This is what the doctor is for.

use repull::client::QueueView;
use repull::id::{Lane, Priority};
use repull::wire::Place;

use super::facts::{Facts, LaneFacts};
use super::finding::Finding;
use super::servers::NEAR;
use crate::ui::out::counted;
use crate::ui::time;

/// Whether there is anything whose movement a second look would show.
pub(super) fn is_in_motion(facts: &Facts) -> bool {
    let has_orphans = |lane: &LaneFacts| lane.has_consumer && orphans(lane) > 0;
    facts
        .lanes
        .values()
        .any(|lane| lane.ready > 0 || lane.ack_pending > 0 || has_orphans(lane))
}

/// Whether a finding says that something stands still.
pub(super) fn is_standstill(finding: &Finding) -> bool {
    const CLASSES: [&str; 5] = [
        "workers-do-not-pull",
        "server-does-not-deliver",
        "limit-held-by-nobody",
        "orphaned-jobs",
        "running-nowhere",
    ];
    CLASSES.contains(&finding.class)
}

/// Jobs in the stream that are counted neither as waiting nor as running.
fn orphans(lane: &LaneFacts) -> u64 {
    lane.subjects.saturating_sub(lane.ready + lane.ack_pending)
}

/// One lane at both looks.
struct Both<'a> {
    lane: &'a Lane,
    queue: &'a QueueView,
    first: LaneFacts,
    second: LaneFacts,
    facts: &'a Facts,
    looks: &'a Facts,
}

/// What is wrong with lanes at both looks.
pub(super) fn diagnose(first: &Facts, second: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for queue in &second.queues {
        findings.extend(paused(queue));
        for view in &queue.lanes {
            let now = second.lanes.get(&view.lane).copied().unwrap_or_default();
            let then = first.lanes.get(&view.lane).copied().unwrap_or_default();
            let both = Both {
                lane: &view.lane,
                queue,
                first: then,
                second: now,
                facts: second,
                looks: first,
            };
            findings.extend(both.waiting());
            findings.extend(both.books());
        }
    }
    findings
}

fn paused(queue: &QueueView) -> Option<Finding> {
    let pause = queue.settings.paused.as_ref()?;
    let reason = if pause.reason.is_empty() {
        "no reason given"
    } else {
        &pause.reason
    };
    Some(
        Finding::note("paused", format!("queue `{}`", queue.name))
            .what(format!(
                "paused {} by {}: {reason}",
                time::relative(pause.at),
                pause.by
            ))
            .cure(format!("`repull queue resume {}`", queue.name)),
    )
}

impl Both<'_> {
    fn subject(&self) -> String {
        match self.lane.priority {
            Priority::Normal => format!("queue `{}`", self.lane),
            _ => format!("lane `{}`", self.lane),
        }
    }

    /// Why jobs that wait do not run, where they do not.
    fn waiting(&self) -> Option<Finding> {
        let (then, now) = (&self.first, &self.second);
        if now.ready == 0 || then.ready == 0 || self.queue.settings.paused.is_some() {
            return None;
        }
        let jobs = counted(now.ready, "job");
        if !now.has_consumer {
            return Some(
                Finding::error("no-consumer", self.subject())
                    .what(format!(
                        "{jobs} waiting, and no consumer could deliver them"
                    ))
                    .cure(format!(
                        "start a worker with --queue {0}, or `repull topology apply --queue {0}`",
                        self.lane.queue
                    )),
            );
        }
        if now.deliveries != then.deliveries {
            return None;
        }
        let workers = self
            .facts
            .serving(self.lane)
            .filter(|worker| !worker.draining)
            .count();
        if workers == 0 {
            return Some(self.without_workers(&jobs));
        }
        if now.ack_pending >= now.ack_pending_max {
            return Some(self.at_its_limit(&jobs));
        }
        let free = self.free_slots();
        (free > 0).then(|| self.stalled(&jobs, free))
    }

    fn without_workers(&self, jobs: &str) -> Finding {
        let oldest = self.second.oldest.map(time::age).unwrap_or_default();
        Finding::error("no-workers", self.subject())
            .what(format!(
                "{jobs} waiting, the first for {oldest}, and no live worker serves it"
            ))
            .cure(format!("start a worker with --queue {}", self.lane.queue))
    }

    fn at_its_limit(&self, jobs: &str) -> Finding {
        let (running, limit) = (self.second.ack_pending, self.second.ack_pending_max);
        let claimed = self.claimed();
        if claimed < running {
            return Finding::error("limit-held-by-nobody", self.subject())
                .what(format!(
                    "{jobs} waiting at the limit of {limit}, and workers run only {claimed} of the {running} that count"
                ))
                .cure(format!(
                    "the others come back within their lease of {}s; if not, `nats consumer cluster step-down` or restart the server",
                    self.second.ack_wait_seconds
                ));
        }
        Finding::note("at-its-limit", self.subject())
            .what(format!(
                "{jobs} waiting because {running} run, which is its limit"
            ))
            .cure(format!(
                "`repull queue limit {} N` raises it",
                self.lane.queue
            ))
    }

    /// Free slots and a backlog, and nothing was delivered between the looks: what must not be.
    fn stalled(&self, jobs: &str, free: u64) -> Finding {
        let between = (self.facts.at - self.looks.at).to_std().unwrap_or_default();
        let finding = |class| {
            Finding::error(class, self.subject()).what(format!(
                "{jobs} waiting, {} free, and nothing was delivered in {}; the server sees {}",
                counted(free, "slot"),
                time::brief(between),
                counted(self.second.waiting_pulls, "open pull"),
            ))
        };
        if self.second.waiting_pulls == 0 {
            finding("workers-do-not-pull").cure(
                "their watchdog acts within a minute and a half; if not, restart one and keep its log",
            )
        } else {
            finding("server-does-not-deliver").cure(format!(
                "move the consumer's leader: `nats consumer cluster step-down`; on a single server restart it, or delete the consumer `{}` and restart a worker (what runs is delivered twice)",
                self.lane
            ))
        }
    }

    /// Slots of workers that serve this lane and could take a job now, at both looks.
    fn free_slots(&self) -> u64 {
        let free = |facts: &Facts| -> u64 {
            facts
                .serving(self.lane)
                .filter(|worker| !worker.draining)
                .map(|worker| u64::from(worker.slots.saturating_sub(worker.running)))
                .sum()
        };
        free(self.looks).min(free(self.facts))
    }

    /// Jobs of this lane that workers say they run or have just run, at the higher of both looks.
    fn claimed(&self) -> u64 {
        let lane = self.lane.to_string();
        let claimed = |facts: &Facts| -> u64 {
            facts
                .serving(self.lane)
                .map(|worker| {
                    let named = worker.jobs.iter().filter(|job| job.lane == lane).count() as u64;
                    let unnamed =
                        u64::from(worker.running).saturating_sub(worker.jobs.len() as u64);
                    named + unnamed + u64::from(worker.settling)
                })
                .sum()
        };
        claimed(self.looks).max(claimed(self.facts))
    }

    /// Numbers of the broker that do not fit each other or the workers'.
    fn books(&self) -> Vec<Finding> {
        let (then, now) = (&self.first, &self.second);
        if !now.has_consumer {
            return Vec::new();
        }
        let mut findings = Vec::new();
        let (orphaned, moved) = (
            orphans(then).min(orphans(now)),
            now.deliveries != then.deliveries,
        );
        // While jobs move, the counts are taken at different moments.
        if orphaned > 0 && !moved {
            findings.push(
                Finding::error("orphaned-jobs", self.subject())
                    .what(format!(
                        "{} in the stream, counted neither as waiting nor as running: no pull will get them",
                        counted(orphaned, "job")
                    ))
                    .cure(format!(
                        "make the consumer anew: `nats consumer rm {} {}`, then restart a worker; what runs is delivered twice",
                        Place::Jobs.stream(&self.facts.namespace),
                        self.lane
                    )),
            );
        }
        let (claimed, running) = (self.claimed(), then.ack_pending.min(now.ack_pending));
        if running > claimed && now.ack_pending < now.ack_pending_max && !moved {
            findings.push(
                Finding::warning("running-nowhere", self.subject())
                    .what(format!(
                        "the server counts {} running, live workers claim {claimed}",
                        counted(running, "job")
                    ))
                    .cure(format!(
                        "their worker died; they run again within their lease of {}s",
                        now.ack_wait_seconds
                    )),
            );
        }
        if now.redelivered > 0 {
            findings.push(
                Finding::warning("redelivered", self.subject())
                    .what(format!(
                        "{} running again after their worker died or lost its lease",
                        counted(now.redelivered, "job")
                    ))
                    .cure("`repull worker list` and the workers' logs say which died"),
            );
        }
        if now.waiting_pulls as f64 >= now.waiting_pulls_max as f64 * NEAR {
            findings.push(
                Finding::warning("pulls-near-limit", self.subject())
                    .what(format!("{} of {} pulls are open", now.waiting_pulls, now.waiting_pulls_max))
                    .cure("raise max_waiting of the consumer: above it, servers drop pulls without a word"),
            );
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::doctor::facts::tests::{facts, queue, worker};

    /// A lane with a backlog of 5, whose one worker has 4 slots of which 2 are free.
    fn backlog() -> LaneFacts {
        LaneFacts {
            has_consumer: true,
            ready: 5,
            ack_pending: 2,
            ack_pending_max: 1000,
            waiting_pulls: 1,
            waiting_pulls_max: 512,
            deliveries: 7,
            subjects: 7,
            ..LaneFacts::default()
        }
    }

    fn classes(first: LaneFacts, second: LaneFacts) -> Vec<&'static str> {
        let look = |lane| facts(lane, vec![worker(4, 2)], queue());
        let findings = diagnose(&look(first), &look(second));
        findings.iter().map(|finding| finding.class).collect()
    }

    #[test]
    fn a_backlog_that_moves_is_health() {
        let later = LaneFacts {
            deliveries: 8,
            ..backlog()
        };
        assert_eq!(classes(backlog(), later), [""; 0]);
    }

    #[test]
    fn free_slots_and_a_backlog_that_stands_still_are_a_stall() {
        assert_eq!(classes(backlog(), backlog()), ["server-does-not-deliver"]);
        let unasked = LaneFacts {
            waiting_pulls: 0,
            ..backlog()
        };
        assert_eq!(classes(unasked, unasked), ["workers-do-not-pull"]);
    }

    #[test]
    fn busy_slots_are_no_stall() {
        let look = || facts(backlog(), vec![worker(2, 2)], queue());
        assert!(diagnose(&look(), &look()).is_empty());
    }

    #[test]
    fn a_backlog_without_workers_or_consumer_is_told() {
        let look = |lane| facts(lane, Vec::new(), queue());
        let idle = LaneFacts {
            ack_pending: 0,
            subjects: 5,
            ..backlog()
        };
        let findings = diagnose(&look(idle), &look(idle));
        assert_eq!(findings[0].class, "no-workers");
        let bare = LaneFacts {
            has_consumer: false,
            ..idle
        };
        assert_eq!(diagnose(&look(bare), &look(bare))[0].class, "no-consumer");
    }

    #[test]
    fn a_limit_that_somebody_set_is_a_note_and_one_held_by_nobody_a_fault() {
        let full = LaneFacts {
            ack_pending_max: 2,
            ..backlog()
        };
        assert_eq!(classes(full, full), ["at-its-limit"]);
        let held = LaneFacts {
            ack_pending: 3,
            ack_pending_max: 3,
            subjects: 8,
            ..backlog()
        };
        assert_eq!(classes(held, held), ["limit-held-by-nobody"]);
    }

    #[test]
    fn books_that_do_not_add_up_are_told() {
        let orphaned = LaneFacts {
            ready: 0,
            subjects: 4,
            ..backlog()
        };
        assert_eq!(classes(orphaned, orphaned), ["orphaned-jobs"]);
        let nowhere = LaneFacts {
            ready: 0,
            ack_pending: 4,
            subjects: 4,
            redelivered: 1,
            ..backlog()
        };
        assert_eq!(
            classes(nowhere, nowhere),
            ["running-nowhere", "redelivered"]
        );
        let crowded = LaneFacts {
            ready: 0,
            subjects: 2,
            waiting_pulls: 500,
            ..backlog()
        };
        assert_eq!(classes(crowded, crowded), ["pulls-near-limit"]);
    }

    #[test]
    fn a_paused_queue_is_a_note_and_never_a_stall() {
        let mut paused = queue();
        paused.settings.paused = Some(repull::queue::Pause {
            by: "ada".into(),
            reason: String::new(),
            at: repull::clock::now(),
        });
        let look = || facts(backlog(), vec![worker(4, 2)], paused.clone());
        let findings = diagnose(&look(), &look());
        assert_eq!(
            findings.iter().map(|f| f.class).collect::<Vec<_>>(),
            ["paused"]
        );
    }
}
