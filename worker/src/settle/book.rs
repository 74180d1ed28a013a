//! Plans on their way: which of their publishes are confirmed, which acks are.
//!
//! Pure: it is told what was confirmed and says what to send. A plan goes through two stages,
//! *publish* and *close*; within a stage everything may be sent again at any time.
//!
//! Acks are confirmed once per turn of the loop: of the acks sent in a turn to one consumer only the
//! last asks for a reply, and since a consumer handles acks in the order in which one connection
//! sent them, its reply vouches for those before it (`docs/decisions/0005-coalesced-acks.md`).

use std::collections::VecDeque;

use async_nats::Subject;
use repull::client::{Answer, Message, PublishError};
use rustc_hash::FxHashMap;

use super::plan::{Close, Plan};

/// A job whose message is being closed. Keyed by its stream sequence.
#[derive(Debug)]
struct Entry {
    queue: usize,
    ack: Subject,
    plan: Plan,
    /// One bit per publish that is confirmed.
    confirmed: u8,
}

impl Entry {
    fn all_confirmed(&self) -> bool {
        usize::try_from(self.confirmed.count_ones())
            .is_ok_and(|count| count >= self.plan.publish.len())
    }
}

/// Something to send.
#[derive(Debug)]
pub(crate) enum Step {
    /// Publish the message of this index of the job's plan, and have it confirmed.
    Publish {
        sequence: u64,
        index: usize,
        message: Message,
    },
    /// Send the last word to the ack subject; its confirmation is the turn's.
    Close {
        sequence: u64,
        queue: usize,
        ack: Subject,
        close: Close,
    },
}

/// What a confirmation led to.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Jobs whose message is gone for good.
    pub(crate) sequences: Vec<u64>,
}

/// All plans under way, and the acks that wait for their confirmation, per queue.
#[derive(Debug, Default)]
pub(crate) struct Book {
    entries: FxHashMap<u64, Entry>,
    /// Per queue: batches of acked jobs in the order sent, with the batch's number.
    unconfirmed: Vec<VecDeque<(u64, Vec<u64>)>>,
}

impl Book {
    pub(crate) fn new(queues: usize) -> Self {
        Self {
            entries: FxHashMap::default(),
            unconfirmed: (0..queues).map(|_| VecDeque::new()).collect(),
        }
    }

    /// Takes a plan and yields its first steps.
    pub(crate) fn open(
        &mut self,
        sequence: u64,
        queue: usize,
        ack: Subject,
        plan: Plan,
        steps: &mut Vec<Step>,
    ) {
        self.entries.insert(
            sequence,
            Entry {
                queue,
                ack,
                plan,
                confirmed: 0,
            },
        );
        self.repeat(sequence, None, steps);
    }

    /// The steps of a plan's stage again, to the newest delivery's ack subject where there is one.
    /// Nothing for a job that is not known.
    pub(crate) fn repeat(&mut self, sequence: u64, ack: Option<Subject>, steps: &mut Vec<Step>) {
        let Some(entry) = self.entries.get_mut(&sequence) else {
            return;
        };
        if let Some(ack) = ack {
            entry.ack = ack;
        }
        if entry.all_confirmed() {
            steps.push(entry.close(sequence));
            return;
        }
        for (index, message) in entry.plan.publish.iter().enumerate() {
            if entry.confirmed & (1 << index) == 0 {
                steps.push(Step::Publish {
                    sequence,
                    index,
                    message: message.clone(),
                });
            }
        }
    }

    /// Takes a stream's answer to a publish. The error is one that repeating will not cure; the
    /// caller has been told, and the plan goes on without that message where the job is not lost by
    /// it.
    pub(crate) fn published(
        &mut self,
        sequence: u64,
        index: usize,
        answer: Answer,
        steps: &mut Vec<Step>,
    ) -> Option<PublishError> {
        let entry = self.entries.get_mut(&sequence)?;
        let bit = 1u8.checked_shl(u32::try_from(index).ok()?)?;
        let error = match answer {
            Answer::Stored { .. } => None,
            // Only handing back expects something: the subject is not ours any more, let it go.
            Answer::WrongLast => None,
            Answer::Again { .. } => return None,
            // The job itself is the first message: without it stored, its old message must stay.
            Answer::Final(error) if index == 0 && !is_event(&entry.plan) => return Some(error),
            Answer::Final(error) => Some(error),
        };
        let first_time = entry.confirmed & bit == 0;
        entry.confirmed |= bit;
        if first_time && entry.all_confirmed() {
            steps.push(entry.close(sequence));
        }
        error
    }

    /// Notes the acks that were sent to `queue` in a turn under the number of its confirmation.
    pub(crate) fn closed(&mut self, queue: usize, batch: u64, sequences: Vec<u64>) {
        if let Some(batches) = self.unconfirmed.get_mut(queue) {
            batches.push_back((batch, sequences));
        }
    }

    /// The server confirmed batch `batch` of `queue`, and with it all before it.
    pub(crate) fn confirmed(&mut self, queue: usize, batch: u64, settled: &mut Settled) {
        let Some(batches) = self.unconfirmed.get_mut(queue) else {
            return;
        };
        while batches.front().is_some_and(|(number, _)| *number <= batch) {
            let Some((_, sequences)) = batches.pop_front() else {
                return;
            };
            for sequence in sequences {
                if self.entries.remove(&sequence).is_some() {
                    settled.sequences.push(sequence);
                }
            }
        }
    }

    /// The server confirmed the ack of this one job.
    pub(crate) fn confirmed_one(&mut self, sequence: u64, settled: &mut Settled) {
        if self.entries.remove(&sequence).is_some() {
            settled.sequences.push(sequence);
        }
    }

    /// Drops what is known of a job: it is no longer ours.
    pub(crate) fn forget(&mut self, sequence: u64) {
        self.entries.remove(&sequence);
    }

    /// A new connection: acks that went over the old one may be lost, and none of its confirmations
    /// will come. The jobs stay known and are acked again.
    pub(crate) fn disconnected(&mut self) {
        for batches in &mut self.unconfirmed {
            batches.clear();
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

impl Entry {
    fn close(&self, sequence: u64) -> Step {
        Step::Close {
            sequence,
            queue: self.queue,
            ack: self.ack.clone(),
            close: self.plan.close,
        }
    }
}

/// Whether the plan's first message only tells what happened, so that the job is not lost without it.
fn is_event(plan: &Plan) -> bool {
    plan.publish
        .first()
        .is_some_and(|message| message.headers.get(repull::wire::headers::EVENT).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use repull::client::Expect;

    fn message(id: &str, event: bool) -> Message {
        let mut headers = async_nats::HeaderMap::new();
        if event {
            headers.insert(repull::wire::headers::EVENT, "succeeded");
        }
        Message {
            subject: "s".into(),
            headers,
            body: "".into(),
            id: id.into(),
            expect: Expect::Anything,
        }
    }

    fn plan(messages: Vec<Message>) -> Plan {
        Plan {
            publish: messages,
            close: Close::Ack,
            kind: None,
        }
    }

    fn stored() -> Answer {
        Answer::Stored {
            sequence: 1,
            duplicate: false,
        }
    }

    fn refused() -> Answer {
        Answer::Final(PublishError::Refused {
            subject: "s".into(),
            code: 1,
            reason: "r".into(),
        })
    }

    fn opened(messages: Vec<Message>) -> (Book, Vec<Step>) {
        let (mut book, mut steps) = (Book::new(1), Vec::new());
        book.open(7, 0, "ack".into(), plan(messages), &mut steps);
        (book, steps)
    }

    #[test]
    fn the_ack_waits_for_every_publish() {
        let (mut book, mut steps) = opened(vec![message("a", false), message("b", true)]);
        assert_eq!(steps.len(), 2);
        steps.clear();
        book.published(7, 0, stored(), &mut steps);
        assert!(steps.is_empty());
        book.published(7, 1, stored(), &mut steps);
        assert!(matches!(steps[..], [Step::Close { sequence: 7, .. }]));
    }

    #[test]
    fn nothing_to_publish_is_acked_at_once() {
        let (_, steps) = opened(Vec::new());
        assert!(matches!(steps[..], [Step::Close { .. }]));
    }

    #[test]
    fn an_answer_that_comes_twice_acks_once() {
        let (mut book, mut steps) = opened(vec![message("a", true)]);
        steps.clear();
        book.published(7, 0, stored(), &mut steps);
        book.published(7, 0, stored(), &mut steps);
        assert_eq!(steps.len(), 1);
    }

    #[test]
    fn an_outcome_that_is_refused_does_not_keep_the_job() {
        let (mut book, mut steps) = opened(vec![message("a", true)]);
        steps.clear();
        assert!(book.published(7, 0, refused(), &mut steps).is_some());
        assert!(matches!(steps[..], [Step::Close { .. }]));
    }

    #[test]
    fn a_job_that_could_not_be_moved_is_never_acked() {
        let (mut book, mut steps) = opened(vec![message("later", false), message("event", true)]);
        steps.clear();
        assert!(book.published(7, 0, refused(), &mut steps).is_some());
        book.published(7, 1, stored(), &mut steps);
        assert!(steps.is_empty());
        book.repeat(7, None, &mut steps);
        assert!(matches!(steps[..], [Step::Publish { index: 0, .. }]));
    }

    #[test]
    fn one_confirmation_vouches_for_the_batches_before_it() {
        let mut book = Book::new(1);
        let mut steps = Vec::new();
        for sequence in 1..=4 {
            book.open(sequence, 0, "ack".into(), plan(Vec::new()), &mut steps);
        }
        book.closed(0, 1, vec![1, 2]);
        book.closed(0, 2, vec![3]);
        book.closed(0, 3, vec![4]);
        let mut settled = Settled::default();
        book.confirmed(0, 2, &mut settled);
        assert_eq!((settled.sequences, book.len()), (vec![1, 2, 3], 1));
    }

    #[test]
    fn after_a_disconnect_no_old_confirmation_counts_and_the_ack_is_repeated() {
        let (mut book, mut steps) = opened(Vec::new());
        book.closed(0, 1, vec![7]);
        book.disconnected();
        let mut settled = Settled::default();
        book.confirmed(0, 1, &mut settled);
        assert!(settled.sequences.is_empty());
        steps.clear();
        book.repeat(7, Some("newer".into()), &mut steps);
        assert!(matches!(&steps[..], [Step::Close { ack, .. }] if ack.as_str() == "newer"));
    }
}
