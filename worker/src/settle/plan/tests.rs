//! What each ending leads to.

use std::time::Duration;

use super::*;

const NOW: &str = "2026-11-23T10:00:00Z";

fn settle(job: &Job, attempt: u32, policy: Policy, ending: Ending) -> Plan {
    let (namespace, worker) = (Namespace::default(), WorkerId::new("w").unwrap());
    let subject = Subject {
        namespace: &namespace,
        worker: &worker,
        job,
        sequence: 7,
        attempt,
        started_at: NOW.parse().unwrap(),
        policy,
        value_bytes_max: 8,
    };
    plan(&subject, ending, NOW.parse().unwrap(), 1.0)
}

fn job() -> Job {
    Job::json("mail.send", &1)
        .unwrap()
        .with_id("j".parse().unwrap())
}

fn subjects(plan: &Plan) -> Vec<&str> {
    plan.publish
        .iter()
        .map(|message| message.subject.as_str())
        .collect()
}

fn failed() -> Ending {
    Ending::Failed {
        error: "no\nluck".into(),
    }
}

#[test]
fn a_success_is_stored_before_the_ack() {
    let plan = settle(
        &job(),
        1,
        Policy::default(),
        Ending::Succeeded {
            value: "1".into(),
            content_type: None,
        },
    );
    assert_eq!(subjects(&plan), ["repull.results.default.mail.send.j"]);
    assert_eq!(
        (plan.close, plan.kind),
        (Close::Ack, Some(EventKind::Succeeded))
    );
}

#[test]
fn a_success_without_results_is_acked_at_once() {
    let job = Job {
        keep_result: Some(false),
        ..job()
    };
    let plan = settle(
        &job,
        1,
        Policy::default(),
        Ending::Succeeded {
            value: "1".into(),
            content_type: None,
        },
    );
    assert!(plan.publish.is_empty());
}

#[test]
fn a_value_above_the_limit_is_dropped_and_said_so() {
    let ending = Ending::Succeeded {
        value: "123456789".into(),
        content_type: None,
    };
    let plan = settle(&job(), 1, Policy::default(), ending);
    let event =
        JobEvent::decode(Some(&plan.publish[0].headers), plan.publish[0].body.clone()).unwrap();
    assert_eq!(
        event.value_dropped.as_deref(),
        Some("9 bytes, expected at most 8")
    );
    assert!(event.body.is_empty());
}

#[test]
fn a_failure_waits_later_with_its_error_and_its_attempt() {
    let plan = settle(&job(), 2, Policy::default(), failed());
    assert_eq!(
        subjects(&plan),
        [
            "repull.later.default.mail.send.j",
            "repull.results.default.mail.send.j"
        ]
    );
    let message = &plan.publish[0];
    let again = wire::decode(
        &Namespace::default(),
        Place::Later,
        &message.subject,
        Some(&message.headers),
        message.body.clone(),
    )
    .unwrap();
    assert_eq!((again.attempts_used, again.errors.len()), (2, 1));
    assert_eq!(
        again.run_at,
        Some(NOW.parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(2))
    );
    assert_eq!(plan.close, Close::Ack);
}

#[test]
fn the_last_attempt_goes_to_the_dead_and_is_terminated() {
    let policy = Policy {
        max_attempts: Some(3),
        ..Policy::default()
    };
    let plan = settle(&job(), 3, policy, failed());
    assert_eq!(
        subjects(&plan),
        [
            "repull.dead.default.mail.send.j",
            "repull.results.default.mail.send.j"
        ]
    );
    assert_eq!(
        (plan.close, plan.kind),
        (Close::Term, Some(EventKind::Failed))
    );
    assert_eq!(
        plan.publish[0]
            .headers
            .get(headers::REASON)
            .unwrap()
            .as_str(),
        "no luck"
    );
}

#[test]
fn a_permanent_failure_dies_on_its_first_attempt() {
    let plan = settle(
        &job(),
        1,
        Policy::default(),
        Ending::Permanent { error: "x".into() },
    );
    assert_eq!(plan.close, Close::Term);
}

#[test]
fn a_retry_that_would_miss_the_deadline_dies_now() {
    let job = Job {
        deadline: Some(NOW.parse().unwrap()),
        ..job()
    };
    assert_eq!(
        settle(&job, 1, Policy::default(), failed()).close,
        Close::Term
    );
}

#[test]
fn a_snooze_uses_no_attempt() {
    let plan = settle(
        &job(),
        3,
        Policy::default(),
        Ending::Snoozed {
            delay: Duration::from_secs(5),
        },
    );
    let used = plan.publish[0]
        .headers
        .get(headers::ATTEMPT)
        .unwrap()
        .as_str();
    assert_eq!((used, plan.kind), ("2", Some(EventKind::Snoozed)));
}

#[test]
fn a_drained_job_goes_back_without_using_an_attempt() {
    let plan = settle(
        &job(),
        1,
        Policy::default(),
        Ending::Cancelled {
            reason: CancelReason::Drain,
        },
    );
    assert_eq!(subjects(&plan), ["repull.jobs.default.mail.send.j"]);
    assert_eq!(plan.publish[0].expect, Expect::Last(7));
    assert!(plan.publish[0].headers.get(headers::ATTEMPT).is_none());
    assert_eq!(plan.kind, None);
}

#[test]
fn the_same_delivery_has_the_same_message_ids() {
    let ids = |plan: &Plan| {
        plan.publish
            .iter()
            .map(|m| m.id.clone())
            .collect::<Vec<_>>()
    };
    let job = job();
    assert_eq!(
        ids(&settle(&job, 2, Policy::default(), failed())),
        ids(&settle(&job, 2, Policy::default(), failed()))
    );
}

#[test]
fn a_message_has_one_outcome_whichever_attempt_tells_it() {
    let id = |attempt: u32, ending: Ending| {
        let plan = settle(&job(), attempt, Policy::default(), ending);
        plan.publish.last().map(|message| message.id.clone())
    };
    let succeeded = || Ending::Succeeded {
        value: "1".into(),
        content_type: None,
    };
    assert_eq!(id(1, succeeded()), id(2, succeeded()));
    assert_ne!(
        id(1, failed()),
        id(2, failed()),
        "a retry is told each time"
    );
}
