//! What KEDA and the HorizontalPodAutoscaler behind it decide, with the numbers of the shipped
//! manifest: how many workers a backlog wants, and how fast a pool may shrink.
//!
//! The rules are those of KEDA's `nats-jetstream` trigger and of the autoscaler's algorithm as their
//! documentation states them: zero to one and one to zero are KEDA's, everything else is the
//! autoscaler's.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;

/// The autoscaler leaves a pool alone while it is this close to what is wanted.
const TOLERANCE: f64 = 0.1;

/// The numbers of a ScaledObject.
#[derive(Clone, Copy, Debug)]
pub(super) struct Policy {
    /// Backlog for one replica: the slots of a worker.
    pub(super) lag_threshold: u32,
    pub(super) replicas_max: u32,
    pub(super) polling: Duration,
    /// How long without a backlog before the last replica goes.
    pub(super) cooldown: Duration,
    /// A pool shrinks to the most that was wanted within this time.
    pub(super) stabilisation: Duration,
    /// The share of the pool that may go within `shrink_period`, in percent.
    pub(super) shrink_percent: u32,
    pub(super) shrink_period: Duration,
}

impl Policy {
    /// What `deploy/kubernetes/components/keda` says.
    pub(super) fn shipped() -> Self {
        let path = "deploy/kubernetes/components/keda/scaled-object.yaml";
        let text = std::fs::read_to_string(repull_tests::repository().join(path));
        let text = text.expect("the shipped ScaledObject");
        let object: Value = serde_norway::from_str(&text).expect("YAML");
        let spec = &object["spec"];
        let down = "/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown";
        let down = spec.pointer(down).expect("a rule for shrinking");
        let seconds = |value: &Value| Duration::from_secs(value.as_u64().expect("seconds"));
        let number = |value: &Value| -> u32 {
            let text = value.as_str().map(str::to_owned);
            let text = text.unwrap_or_else(|| value.to_string());
            text.parse().expect("a number")
        };
        let shrink = &down["policies"][0];
        assert_eq!(shrink["type"], "Percent");
        assert_eq!(spec["minReplicaCount"], 0);
        Self {
            lag_threshold: number(&spec["triggers"][0]["metadata"]["lagThreshold"]),
            replicas_max: number(&spec["maxReplicaCount"]),
            polling: seconds(&spec["pollingInterval"]),
            cooldown: seconds(&spec["cooldownPeriod"]),
            stabilisation: seconds(&down["stabilizationWindowSeconds"]),
            shrink_percent: number(&shrink["value"]),
            shrink_period: seconds(&shrink["periodSeconds"]),
        }
    }

    /// The same with all times divided by `factor`.
    pub(super) fn faster(self, factor: u32) -> Self {
        Self {
            polling: self.polling / factor,
            cooldown: self.cooldown / factor,
            stabilisation: self.stabilisation / factor,
            shrink_period: self.shrink_period / factor,
            ..self
        }
    }

    /// Replicas for a backlog of waiting and running jobs: the formula of `docs/OPERATING.md`.
    fn wanted(&self, lag: u64, current: u32) -> u32 {
        let ratio = lag as f64 / f64::from(current) / f64::from(self.lag_threshold);
        if (ratio - 1.0).abs() <= TOLERANCE {
            return current;
        }
        let wanted = lag.div_ceil(u64::from(self.lag_threshold));
        u32::try_from(wanted).unwrap_or(u32::MAX)
    }
}

/// The two controllers over one pool.
pub(super) struct Autoscaler {
    policy: Policy,
    /// What was wanted, and when, within the stabilisation window.
    wanted: VecDeque<(Duration, u32)>,
    /// Sizes of the pool within the shrink period.
    sizes: VecDeque<(Duration, u32)>,
    active_at: Option<Duration>,
}

impl Autoscaler {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            wanted: VecDeque::new(),
            sizes: VecDeque::new(),
            active_at: None,
        }
    }

    /// How large the pool shall be, given its size and the backlog at `now`.
    pub(super) fn decide(&mut self, now: Duration, lag: u64, current: u32) -> u32 {
        let policy = self.policy;
        if lag > 0 {
            self.active_at = Some(now);
        }
        if current == 0 {
            return u32::from(lag > 0);
        }
        let idle_for = now - self.active_at.unwrap_or_default();
        if lag == 0 && idle_for >= policy.cooldown {
            self.wanted.clear();
            self.sizes.clear();
            return 0;
        }
        // Above zero the autoscaler's own floor is one.
        let wanted = policy.wanted(lag, current).clamp(1, policy.replicas_max);
        remember(&mut self.wanted, now, policy.stabilisation, wanted);
        remember(&mut self.sizes, now, policy.shrink_period, current);
        if wanted >= current {
            return wanted;
        }
        let stabilised = most(&self.wanted).min(current);
        let before = most(&self.sizes);
        let may_go = before * policy.shrink_percent / 100;
        stabilised.max(before - may_go).min(current)
    }
}

fn remember(series: &mut VecDeque<(Duration, u32)>, now: Duration, window: Duration, value: u32) {
    series.push_back((now, value));
    while series.front().is_some_and(|(at, _)| now - *at > window) {
        series.pop_front();
    }
}

fn most(series: &VecDeque<(Duration, u32)>) -> u32 {
    series.iter().map(|(_, value)| *value).max().unwrap_or(0)
}

#[test]
fn a_pool_follows_its_backlog_up_at_once_and_down_slowly() {
    let policy = Policy {
        lag_threshold: 10,
        replicas_max: 8,
        polling: Duration::from_secs(10),
        cooldown: Duration::from_secs(300),
        stabilisation: Duration::from_secs(300),
        shrink_percent: 50,
        shrink_period: Duration::from_secs(60),
    };
    let mut scaler = Autoscaler::new(policy);
    let mut at = |seconds, lag, current| scaler.decide(Duration::from_secs(seconds), lag, current);

    assert_eq!(at(0, 0, 0), 0, "nothing to do");
    assert_eq!(at(10, 1, 0), 1, "the first job wakes the pool");
    assert_eq!(at(20, 41, 1), 5, "the backlog over the slots, rounded up");
    assert_eq!(at(30, 500, 5), 8, "never above the maximum");
    assert_eq!(at(40, 75, 8), 8, "close enough");
    assert_eq!(at(50, 5, 8), 8, "not yet");
    assert_eq!(at(340, 5, 8), 8, "the window still holds a larger wish");
    assert_eq!(at(351, 5, 8), 4, "then at most half");
    assert_eq!(at(370, 5, 4), 4, "within one period");
    assert_eq!(at(412, 5, 4), 2);
    assert_eq!(at(473, 5, 2), 1);
    assert_eq!(at(700, 0, 1), 1, "idle, but not for long enough");
    assert_eq!(at(1_000, 0, 1), 0, "asleep");
    assert_eq!(at(1_010, 1, 0), 1, "and awake again");
}
