//! The planner through changes of leader at any instant, against a model.
//!
//! Time is a number here. A leader takes fires, publishes some of them, stores its mark now and then
//! and dies; a standby that followed goes on. Changes of schedules are stored at one time and learned
//! of at another. In the end every fire that should have come came, and none came twice.

mod examples;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use repull::id::ScheduleId;
use repull::queue::Pause;
use repull::schedule::{Coalesce, Schedule};
use repull::trigger::{Trigger, jitter};
use repull_scheduler::due::{Change, Decision, Fire, Mark, Planner};

const HORIZON: TimeDelta = TimeDelta::seconds(5);

/// What a scenario does.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes.
    Pass { millis: i64 },
    /// The leader takes up to this many fires.
    Take { limit: usize },
    /// The leader publishes one of the fires that it has taken, picked by this number.
    Publish { pick: usize },
    /// The leader publishes all that it has taken.
    PublishAll,
    /// The leader stores its mark.
    Mark,
    /// A schedule is changed.
    Edit { schedule: usize, edit: Edit },
    /// The leader learns of all changes.
    LeaderLearns,
    /// The standby learns of all changes.
    StandbyLearns,
    /// The standby reads the mark.
    Follow,
    /// The leader dies, the standby goes on, and a new standby starts.
    Crash,
}

#[derive(Debug, Clone)]
enum Edit {
    /// Another interval; with or without saying from when on it counts.
    Interval {
        millis: u64,
        says_when: bool,
    },
    Pause,
    Resume,
}

fn step(schedules: usize) -> impl Strategy<Value = Step> {
    let edit = prop_oneof![
        (interval(), any::<bool>())
            .prop_map(|(millis, says_when)| Edit::Interval { millis, says_when }),
        Just(Edit::Pause),
        Just(Edit::Resume),
    ];
    prop_oneof![
        6 => (1i64..3_000).prop_map(|millis| Step::Pass { millis }),
        6 => (1usize..20).prop_map(|limit| Step::Take { limit }),
        4 => any::<usize>().prop_map(|pick| Step::Publish { pick }),
        3 => Just(Step::PublishAll),
        4 => Just(Step::Mark),
        2 => (0..schedules, edit).prop_map(|(schedule, edit)| Step::Edit { schedule, edit }),
        3 => Just(Step::LeaderLearns),
        2 => Just(Step::StandbyLearns),
        3 => Just(Step::Follow),
        2 => Just(Step::Crash),
    ]
}

fn interval() -> impl Strategy<Value = u64> {
    prop_oneof![
        100u64..2_000,
        Just(250),
        Just(500),
        Just(1_000),
        2_000u64..60_000
    ]
}

/// A schedule at the start: its interval and jitter.
fn first() -> impl Strategy<Value = (u64, Option<u64>)> {
    (interval(), prop::option::of(1u64..5_000))
}

fn start() -> DateTime<Utc> {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

/// One version of a schedule as the model sees it.
struct Version {
    trigger: Trigger,
    begins: DateTime<Utc>,
    /// Only fires until then; none while it is the newest.
    ends: Option<DateTime<Utc>>,
    /// It was paused at its end.
    cut: bool,
    paused: bool,
}

struct Model {
    now: DateTime<Utc>,
    /// All changes so far, as the bucket holds them.
    bucket: Vec<(Schedule, DateTime<Utc>)>,
    versions: BTreeMap<ScheduleId, Vec<Version>>,
    mark: Mark,
    horizon: DateTime<Utc>,
    published: HashMap<(ScheduleId, DateTime<Utc>), usize>,
}

struct Scheduler {
    planner: Planner,
    learned: usize,
    open: Vec<Fire>,
    taken: DateTime<Utc>,
    /// Changes of schedules that had fires open: the revision and those fires.
    changed: Vec<(u64, Vec<String>)>,
}

impl Scheduler {
    fn start(model: &Model) -> Self {
        let mut scheduler = Self {
            planner: Planner::new(model.mark.clone()),
            learned: 0,
            open: Vec::new(),
            taken: model.mark.up_to,
            changed: Vec::new(),
        };
        scheduler.learn(model);
        scheduler
    }

    fn learn(&mut self, model: &Model) {
        for (index, (schedule, stored)) in model.bucket.iter().enumerate().skip(self.learned) {
            let revision = index as u64 + 1;
            let open = self.open.iter().filter(|fire| fire.schedule == schedule.id);
            self.changed.push((revision, open.map(Fire::id).collect()));
            self.planner.apply(Change::Put {
                schedule: Box::new(schedule.clone()),
                revision,
                stored: *stored,
            });
        }
        self.learned = model.bucket.len();
    }

    fn take(&mut self, model: &Model, limit: usize) {
        let until = model.now.min(model.horizon);
        for decision in self.planner.due(until, limit) {
            let Decision::Publish(fire) = decision else {
                panic!("passed over: {decision:?}")
            };
            assert!(fire.due <= model.now, "early: {fire:?} at {}", model.now);
            self.open.push(fire);
        }
        let next = self.planner.next_due();
        let taken = next.map_or(until, |next| until.min(next - TimeDelta::nanoseconds(1)));
        self.taken = self.taken.max(taken);
    }

    fn publish(&mut self, model: &mut Model, index: usize) {
        let fire = self.open.remove(index);
        *model.published.entry((fire.schedule, fire.at)).or_default() += 1;
    }

    fn publish_all(&mut self, model: &mut Model) {
        while !self.open.is_empty() {
            self.publish(model, 0);
        }
    }

    /// As the shard's loop does it.
    fn store_mark(&mut self, model: &mut Model) {
        let next = self.planner.next_due().into_iter();
        let open = self.open.iter().map(|fire| fire.due);
        let oldest = next
            .chain(open)
            .min()
            .map(|due| due - TimeDelta::nanoseconds(1));
        let up_to = oldest.map_or(self.taken, |oldest| oldest.min(self.taken));
        let open: Vec<String> = self.open.iter().map(Fire::id).collect();
        self.changed
            .retain(|(_, fires)| fires.iter().any(|fire| open.contains(fire)));
        let held_back = self.changed.iter().map(|(revision, _)| revision - 1);
        if up_to >= model.mark.up_to {
            model.mark = Mark::new(up_to, held_back.fold(self.learned as u64, u64::min));
        }
        model.horizon = model.horizon.max(model.now + HORIZON);
        self.planner.advance(model.mark.clone());
    }

    fn take_over(&mut self, model: &mut Model) {
        self.learn(model);
        self.planner.go_on_from(model.mark.clone());
        let suspects = self
            .planner
            .open_until(model.horizon.min(model.now), usize::MAX);
        let published = suspects
            .into_iter()
            .map(|fire| (fire.schedule, fire.at))
            .filter(|fire| model.published.contains_key(fire));
        self.planner.settle(published.collect::<Vec<_>>());
        self.taken = model.mark.up_to;
        model.horizon = model.horizon.max(model.now + HORIZON);
    }
}

impl Model {
    fn new(schedules: &[(u64, Option<u64>)]) -> Self {
        let mut model = Self {
            now: start(),
            bucket: Vec::new(),
            versions: BTreeMap::new(),
            mark: Mark::new(start(), 0),
            horizon: start() + HORIZON,
            published: HashMap::new(),
        };
        for (index, (interval, jitter)) in schedules.iter().enumerate() {
            let mut schedule = Schedule::new(
                ScheduleId::new(format!("s{index}")).unwrap(),
                every(*interval),
                serde_json::from_str(r#"{"task": "t"}"#).unwrap(),
            );
            schedule.jitter = jitter.map(std::time::Duration::from_millis);
            schedule.active_from = Some(model.now);
            model.store(schedule);
        }
        model
    }

    fn store(&mut self, schedule: Schedule) {
        let active_from = schedule.active_from.unwrap_or(self.now);
        let versions = self.versions.entry(schedule.id.clone()).or_default();
        let mut begins = active_from;
        if let Some(before) = versions.last_mut() {
            if active_from <= before.begins {
                begins = self.now.max(before.begins);
            }
            before.ends = Some(begins);
            before.cut = schedule.paused.is_some();
        }
        versions.push(Version {
            trigger: schedule.trigger.clone(),
            begins,
            ends: None,
            cut: false,
            paused: schedule.paused.is_some(),
        });
        self.bucket.push((schedule, self.now));
    }

    fn edit(&mut self, schedule: usize, edit: &Edit) {
        let id = ScheduleId::new(format!("s{schedule}")).unwrap();
        let newest = self
            .bucket
            .iter()
            .rev()
            .find(|(schedule, _)| schedule.id == id);
        let mut schedule = newest.unwrap().0.clone();
        match edit {
            Edit::Interval { millis, says_when } => {
                schedule.trigger = every(*millis);
                if *says_when {
                    schedule.active_from = Some(self.now);
                }
            }
            Edit::Pause => {
                schedule.paused = Some(Pause {
                    by: "t".into(),
                    reason: String::new(),
                    at: self.now,
                });
            }
            Edit::Resume => {
                schedule.paused = None;
                schedule.active_from = Some(self.now);
            }
        }
        self.store(schedule);
    }

    /// Every fire that must have come by now.
    fn expected(&self) -> Vec<(ScheduleId, DateTime<Utc>)> {
        let mut expected = Vec::new();
        for (id, versions) in &self.versions {
            let max = self
                .bucket
                .iter()
                .find(|(schedule, _)| schedule.id == *id)
                .unwrap()
                .0
                .jitter;
            for version in versions.iter().filter(|version| !version.paused) {
                for fire in version.trigger.fires(Some(version.begins)) {
                    if fire > self.now || version.ends.is_some_and(|ends| fire > ends) {
                        break;
                    }
                    let next = version.trigger.next(Some(fire));
                    let due = fire
                        + max.map_or(std::time::Duration::ZERO, |max| {
                            jitter(id.as_str(), fire, next, max)
                        });
                    let void = version.cut && version.ends.is_some_and(|ends| due > ends);
                    if due <= self.now && !void {
                        expected.push((id.clone(), fire));
                    }
                }
            }
        }
        expected
    }
}

fn every(millis: u64) -> Trigger {
    Trigger::every(
        std::time::Duration::from_millis(millis),
        DateTime::UNIX_EPOCH,
    )
    .unwrap()
}

fn run(schedules: &[(u64, Option<u64>)], steps: &[Step]) -> Model {
    let mut model = Model::new(schedules);
    let mut leader = Scheduler::start(&model);
    let mut standby = Scheduler::start(&model);
    for step in steps {
        match step {
            Step::Pass { millis } => model.now += TimeDelta::milliseconds(*millis),
            Step::Take { limit } => leader.take(&model, *limit),
            Step::Publish { pick } if !leader.open.is_empty() => {
                let index = pick % leader.open.len();
                leader.publish(&mut model, index);
            }
            Step::Publish { .. } => {}
            Step::PublishAll => leader.publish_all(&mut model),
            Step::Mark => leader.store_mark(&mut model),
            Step::Edit { schedule, edit } => {
                model.now += TimeDelta::milliseconds(1);
                model.edit(*schedule, edit);
            }
            Step::LeaderLearns => leader.learn(&model),
            Step::StandbyLearns => standby.learn(&model),
            Step::Follow => standby.planner.advance(model.mark.clone()),
            Step::Crash => {
                leader = std::mem::replace(&mut standby, Scheduler::start(&model));
                leader.take_over(&mut model);
            }
        }
    }
    // All is well from here on: what is left comes.
    leader.learn(&model);
    for _ in 0..3 {
        leader.store_mark(&mut model);
        leader.take(&model, usize::MAX);
        leader.publish_all(&mut model);
    }
    assert!(
        leader
            .planner
            .next_due()
            .is_none_or(|next| next > model.now)
    );
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_fire_is_lost_or_doubled_whenever_leaders_die(
        schedules in prop::collection::vec(first(), 1..4),
        steps in prop::collection::vec(step(3), 1..120),
    ) {
        let steps: Vec<Step> = steps
            .into_iter()
            .map(|step| match step {
                Step::Edit { schedule, edit } => Step::Edit { schedule: schedule % schedules.len(), edit },
                step => step,
            })
            .collect();
        let model = run(&schedules, &steps);
        for (fire, count) in &model.published {
            prop_assert_eq!(*count, 1, "doubled: {:?}", fire);
        }
        for fire in model.expected() {
            prop_assert!(model.published.contains_key(&fire), "lost: {:?}", fire);
        }
    }

    #[test]
    fn a_standby_that_followed_and_one_that_starts_fresh_plan_the_same(
        schedules in prop::collection::vec(first(), 1..4),
        marks in prop::collection::vec(1i64..5_000, 1..20),
    ) {
        let mut model = Model::new(&schedules);
        let mut standby = Scheduler::start(&model);
        for millis in marks {
            model.now += TimeDelta::milliseconds(millis);
            model.mark = Mark::new(model.now, model.bucket.len() as u64);
            standby.planner.advance(model.mark.clone());
        }
        let mut fresh = Scheduler::start(&model);
        let until = model.now + TimeDelta::seconds(10);
        let fires = |planner: &mut Planner| {
            let mut fires: Vec<_> = planner.open_until(until, usize::MAX).iter().map(Fire::id).collect();
            fires.sort();
            fires
        };
        prop_assert_eq!(fires(&mut standby.planner), fires(&mut fresh.planner));
    }
}
