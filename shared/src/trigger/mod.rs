//! When a schedule fires.
//!
//! A trigger is a pure function: [`Trigger::next`] gives the first fire after an instant and
//! depends on nothing but the trigger, so that any number of schedulers compute the same fires.
//! There is no state, no clock and no random number in here; even [`jitter`] is a hash.
//!
//! A trigger has a rule (`cron`, `every`, `calendar`, `at`, or `any` and `all` of others), and may
//! have a window (`start` and `end`, both inclusive) and exclusions (dates, or triggers that veto a
//! fire at the same instant). All of that nests.
//!
//! ```
//! # use repull::trigger::Trigger;
//! let trigger = Trigger::parse_json(
//!     r#"{"cron": {"expression": "30 2 * * *", "timezone": "Europe/Berlin"},
//!         "exclude": ["2026-12-25"]}"#,
//! )?;
//! let after = "2026-12-24T12:00:00Z".parse().ok();
//! assert_eq!(trigger.next(after).unwrap().to_string(), "2026-12-26 01:30:00 UTC");
//! # Ok::<(), repull::trigger::Error>(())
//! ```
//!
//! Fires lie between the years 1 and 9999, and evaluation always ends: see `budget.rs` for the
//! bound on combinations, `cron/fields.rs` for the one on cron expressions.

mod budget;
mod calendar;
mod combine;
mod cron;
mod describe;
mod error;
mod every;
mod jitter;
mod read;
mod value;
mod write;
mod year;
mod zone;

use std::time::Duration;

use chrono::{DateTime, FixedOffset, NaiveDate, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

use self::budget::Budget;
use self::calendar::Calendar;
use self::combine::All;
use self::cron::Cron;
use self::every::Every;

pub use self::error::Error;
pub use self::jitter::jitter;
pub use self::year::{ClockChange, LocalFire, Year};

/// The smallest step between two instants.
const NANOSECOND: TimeDelta = TimeDelta::nanoseconds(1);

/// Says when a schedule fires. The module's page has the whole picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    rule: Rule,
    /// No fire before this instant.
    start: Option<DateTime<Utc>>,
    /// No fire after this instant.
    end: Option<DateTime<Utc>>,
    exclude: Vec<Exclusion>,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Cron(Box<Cron>),
    Every(Every),
    Calendar(Box<Calendar>),
    At(DateTime<Utc>),
    Any(Vec<Trigger>),
    All(Box<All>),
}

/// What vetoes a fire.
#[derive(Clone, Debug, PartialEq)]
enum Exclusion {
    /// A whole day in the trigger's zone.
    Date(NaiveDate),
    /// The fires of another trigger.
    Fires(Trigger),
}

impl Trigger {
    /// Reads the JSON form and checks that it can fire.
    pub fn parse_json(text: &str) -> Result<Trigger, Error> {
        let value = serde_json::from_str(text).map_err(|cause| Error::NotJson {
            text: value::shortened(text),
            cause: cause.to_string(),
        })?;
        Trigger::from_value(value)
    }

    /// As [`Trigger::parse_json`], for what is JSON already.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers have no use for it afterwards"
    )]
    pub fn from_value(value: serde_json::Value) -> Result<Trigger, Error> {
        let trigger = read::trigger(&value)?;
        trigger.validate()?;
        Ok(trigger)
    }

    /// Fires by a crontab expression, read on the clocks of an IANA zone.
    pub fn cron(expression: &str, timezone: &str) -> Result<Trigger, Error> {
        let timezone = value::timezone(timezone, "cron.timezone")?;
        let cron = Cron::new(expression, timezone, "cron.expression")?;
        Ok(Rule::Cron(Box::new(cron)).into())
    }

    /// Fires at `anchor` and every `interval` after it; an interval has at least a millisecond.
    pub fn every(interval: Duration, anchor: DateTime<Utc>) -> Result<Trigger, Error> {
        value::check_interval(interval, &value::duration_text(interval), "every.interval")?;
        Ok(Rule::Every(Every {
            interval,
            anchor: Some(anchor),
        })
        .into())
    }

    /// Fires once.
    pub fn at(when: DateTime<Utc>) -> Trigger {
        Rule::At(when).into()
    }

    /// Refuses a trigger whose window contradicts itself, and one without any fire.
    ///
    /// A trigger that is bounded in time (by `end` or `until`, or because it is an `at`) may turn
    /// out to have no fire in its time: it is exhausted, not wrong.
    pub fn validate(&self) -> Result<(), Error> {
        self.validate_at("")
    }

    /// The first fire strictly after `after`; with `None`, the first of all.
    ///
    /// A cron expression has no beginning of its own; its first fire is the one after 1970 began.
    pub fn next(&self, after: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        self.next_within(after, &mut Budget::new())
    }

    /// The same instant as [`Trigger::next`] gives, as the clocks of the trigger's zone show it.
    pub fn next_local(&self, after: Option<DateTime<Utc>>) -> Option<DateTime<FixedOffset>> {
        Some(self.local(self.next(after)?))
    }

    /// All fires strictly after `after`, in order; it may not end.
    pub fn fires(&self, after: Option<DateTime<Utc>>) -> impl Iterator<Item = DateTime<Utc>> + '_ {
        std::iter::successors(self.next(after), |fire| self.next(Some(*fire)))
    }

    /// An instant as the clocks of the trigger's zone show it.
    pub fn local(&self, instant: DateTime<Utc>) -> DateTime<FixedOffset> {
        let offset = self
            .timezone()
            .offset_from_utc_datetime(&instant.naive_utc())
            .fix();
        instant.with_timezone(&offset)
    }

    /// The zone in which the trigger is meant: for `any` and `all` that of the first member which
    /// has one, and UTC where there is none. Excluded dates are days in this zone.
    pub fn timezone(&self) -> Tz {
        self.own_timezone().unwrap_or(Tz::UTC)
    }

    /// Gives each `every` without an anchor, also nested ones, this one.
    ///
    /// Whoever stores a schedule calls it with the time of creation; without, intervals would be
    /// counted from 1970.
    pub fn anchor(&mut self, at: DateTime<Utc>) {
        for trigger in self.exclude.iter_mut().filter_map(Exclusion::trigger_mut) {
            trigger.anchor(at);
        }
        match &mut self.rule {
            Rule::Every(every) => every.anchor = every.anchor.or(Some(at)),
            Rule::Any(members) => members.iter_mut().for_each(|member| member.anchor(at)),
            Rule::All(all) => all.members.iter_mut().for_each(|member| member.anchor(at)),
            Rule::Cron(_) | Rule::Calendar(_) | Rule::At(_) => {}
        }
    }

    fn next_within(
        &self,
        after: Option<DateTime<Utc>>,
        budget: &mut Budget,
    ) -> Option<DateTime<Utc>> {
        // `start` is inclusive.
        let before_start = self
            .start
            .and_then(|start| start.checked_sub_signed(NANOSECOND));
        let mut after = after.max(before_start);
        loop {
            budget.spend()?;
            let fire = self.rule.next(after, budget)?;
            if self.end.is_some_and(|end| fire > end) || fire.timestamp() > zone::LAST_SECOND {
                return None;
            }
            match self.vetoed_until(fire, budget) {
                None => return Some(fire),
                Some(until) => after = Some(until),
            }
        }
    }

    /// Whether something vetoes the fire, and the last instant at which it surely does.
    fn vetoed_until(&self, fire: DateTime<Utc>, budget: &mut Budget) -> Option<DateTime<Utc>> {
        self.exclude.iter().find_map(|exclusion| match exclusion {
            Exclusion::Date(date) => {
                let shown = self.local(fire).date_naive();
                // The whole day at once: it may hold very many fires.
                (shown == *date).then(|| self.end_of_day(shown).map_or(fire, |end| end.max(fire)))
            }
            Exclusion::Fires(trigger) => {
                let before = fire.checked_sub_signed(NANOSECOND);
                (trigger.next_within(before, budget) == Some(fire)).then_some(fire)
            }
        })
    }

    /// The last instant of a day in the trigger's zone.
    fn end_of_day(&self, date: NaiveDate) -> Option<DateTime<Utc>> {
        let midnight = (zone::day(date) + 1) * zone::DAY;
        let next = zone::instant(zone::resolve(self.timezone(), midnight).reached())?;
        next.checked_sub_signed(NANOSECOND)
    }

    fn own_timezone(&self) -> Option<Tz> {
        match &self.rule {
            Rule::Cron(cron) => Some(cron.timezone),
            Rule::Calendar(calendar) => Some(calendar.timezone),
            Rule::Every(_) | Rule::At(_) => None,
            Rule::Any(members) => members.iter().find_map(Trigger::own_timezone),
            Rule::All(all) => all.members.iter().find_map(Trigger::own_timezone),
        }
    }

    fn validate_at(&self, place: &str) -> Result<(), Error> {
        self.check_window(place)?;
        for (index, exclusion) in self.exclude.iter().enumerate() {
            if let Exclusion::Fires(trigger) = exclusion {
                trigger.validate_at(&value::join(place, &format!("exclude[{index}]")))?;
            }
        }
        let (name, members): (_, &[Trigger]) = match &self.rule {
            Rule::Any(members) => ("any", members),
            Rule::All(all) => ("all", &all.members),
            _ => ("", &[]),
        };
        for (index, member) in members.iter().enumerate() {
            member.validate_at(&value::join(place, &format!("{name}[{index}]")))?;
        }
        self.check_fires(place)
    }

    fn check_window(&self, place: &str) -> Result<(), Error> {
        let (begin, finish) = self.rule.span();
        let (begin, finish) = (begin.max(self.start), earlier(finish, self.end));
        if let (Some(begin), Some(finish)) = (begin, finish)
            && finish < begin
        {
            let what = format!(
                "{} begins at {} and ends before that, at {}",
                value::named(place),
                value::instant_text(begin),
                value::instant_text(finish)
            );
            return Err(Error::Never { what });
        }
        Ok(())
    }

    fn check_fires(&self, place: &str) -> Result<(), Error> {
        let mut budget = Budget::new();
        if self.is_bounded() || self.next_within(None, &mut budget).is_some() {
            return Ok(());
        }
        let why = if budget.is_used_up() {
            "a long search found no fire that its parts allow"
        } else {
            "its parts allow no fire"
        };
        Err(Error::Never {
            what: format!("{} is {self}, and {why}", value::named(place)),
        })
    }

    /// Whether it is of the kind that ends at a known time.
    fn is_bounded(&self) -> bool {
        self.end.is_some()
            || match &self.rule {
                Rule::At(_) => true,
                Rule::Calendar(calendar) => calendar.until.is_some(),
                Rule::Cron(_) | Rule::Every(_) => false,
                Rule::Any(members) => members.iter().all(Trigger::is_bounded),
                Rule::All(all) => all.members.iter().any(Trigger::is_bounded),
            }
    }
}

impl Rule {
    /// The first fire strictly after `after`, window and exclusions aside.
    fn next(&self, after: Option<DateTime<Utc>>, budget: &mut Budget) -> Option<DateTime<Utc>> {
        match self {
            Rule::Cron(cron) => {
                let after = after.map_or(-1, |after| after.timestamp());
                zone::instant(cron.next(after.max(zone::FIRST_SECOND - 1))?)
            }
            Rule::Every(every) => every.next(after),
            Rule::Calendar(calendar) => calendar.next(after, budget),
            Rule::At(when) => Some(*when).filter(|when| after.is_none_or(|after| *when > after)),
            Rule::Any(members) => combine::next_of_any(members, after, budget),
            Rule::All(all) => all.next(after, budget),
        }
    }

    /// The times before and after which the rule by itself has no fire.
    fn span(&self) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
        match self {
            Rule::At(when) => (Some(*when), Some(*when)),
            Rule::Every(every) => (every.anchor, None),
            Rule::Calendar(calendar) => calendar.span(),
            Rule::Cron(_) | Rule::Any(_) | Rule::All(_) => (None, None),
        }
    }
}

impl Exclusion {
    fn trigger_mut(&mut self) -> Option<&mut Trigger> {
        match self {
            Exclusion::Date(_) => None,
            Exclusion::Fires(trigger) => Some(trigger),
        }
    }
}

impl From<Rule> for Trigger {
    fn from(rule: Rule) -> Trigger {
        Trigger {
            rule,
            start: None,
            end: None,
            exclude: Vec::new(),
        }
    }
}

/// The earlier of two, where `None` is never.
fn earlier(a: Option<DateTime<Utc>>, b: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
