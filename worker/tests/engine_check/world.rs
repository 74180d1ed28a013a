//! A worker and its server as one state that can be stepped: what may happen next, what each step
//! does, and what must hold after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use repull_worker::engine::{
    Command, Config, Epoch, Event, Lane, Millis, NeverStarted, PullId, QueueIx, Seq, Status,
    Verdict,
};

use crate::server::{Place, Server, Waiting};
use crate::shell::{Mutant, Shell, claims};

/// A message on its way to the worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Down {
    Job {
        queue: QueueIx,
        seq: Seq,
        deliveries: u32,
        pending: u64,
    },
    Status {
        pull: PullId,
        status: Status,
    },
}

/// A confirmation on its way to the worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Settled(Seq),
    Extended(QueueIx, u64),
    Backlog(QueueIx),
}

/// A handler that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Handler {
    pub(crate) cancelled: bool,
    /// It will not end by itself.
    pub(crate) long: bool,
}

/// How often each kind of trouble may still happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Losses of messages and pulls, statuses that end pulls, other workers, sleeps.
    pub(crate) faults: u8,
    /// New connections.
    pub(crate) reconnects: u8,
    pub(crate) pauses: u8,
    pub(crate) cancels: u8,
    /// Attempts that end without a word to the server.
    pub(crate) abandons: u8,
    pub(crate) drains: u8,
    pub(crate) stops: u8,
}

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

/// What is wrong with a step.
pub(crate) type Violation = String;

/// The state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) shell: Shell,
    pub(crate) slots: u32,
    pub(crate) now: Millis,
    pub(crate) epoch: Epoch,
    pub(crate) server: Server,
    pub(crate) down: BTreeMap<(Epoch, Lane), VecDeque<Down>>,
    pub(crate) answers: VecDeque<Answer>,
    pub(crate) handlers: BTreeMap<Seq, Handler>,
    /// Jobs whose handler ended and that the shell has not been told what to do with.
    ended: BTreeMap<Seq, Verdict>,
    /// Jobs that the shell was told to settle, neither confirmed nor forgotten.
    settling: BTreeMap<Seq, Verdict>,
    /// Handlers reported as stuck.
    stuck: BTreeSet<Seq>,
    replace_stuck: bool,
    /// The watchdog is on.
    watched: bool,
    pub(crate) paused: Vec<bool>,
    pub(crate) budget: Budget,
    /// Something has gone wrong, so more may arrive than was asked for.
    disturbed: bool,
    lose_next: bool,
    cut: bool,
    noticed: bool,
    /// The cut is for good, and nobody notices: the worker must give up.
    deaf: bool,
    asked_epoch: bool,
    pub(crate) draining: bool,
    pub(crate) stopped: bool,
    pub(crate) exited: bool,
}

impl World {
    pub(crate) fn new(config: Config, jobs: &[u32], budget: Budget) -> Self {
        Self::with_mutant(config, jobs, budget, None)
    }

    /// A world in which the shell makes a mistake; its first turn is over.
    pub(crate) fn with_mutant(
        config: Config,
        jobs: &[u32],
        budget: Budget,
        mutant: Option<Mutant>,
    ) -> Self {
        assert_eq!(
            config.queues.len(),
            jobs.len(),
            "a number of jobs for each queue"
        );
        let mut world = Self {
            slots: config.slots,
            now: Millis(0),
            epoch: Epoch(0),
            server: Server::new(config.ack_wait, jobs),
            down: BTreeMap::new(),
            answers: VecDeque::new(),
            handlers: BTreeMap::new(),
            ended: BTreeMap::new(),
            settling: BTreeMap::new(),
            stuck: BTreeSet::new(),
            replace_stuck: config.replace_stuck,
            watched: config.watchdog < Millis::NEVER,
            paused: vec![false; jobs.len()],
            budget,
            disturbed: false,
            lose_next: false,
            cut: false,
            noticed: false,
            deaf: false,
            asked_epoch: false,
            draining: false,
            stopped: false,
            exited: false,
            shell: Shell::new(config, mutant),
        };
        world.turn(&[Event::Tick]).expect("the first turn is sound");
        world
    }

    fn queues(&self) -> impl Iterator<Item = QueueIx> + use<> {
        (0..self.paused.len() as u16).map(QueueIx)
    }

    fn waiting(&self, queue: QueueIx) -> &[Waiting] {
        &self.server.waiting[usize::from(queue.0)]
    }

    pub(crate) fn can_serve(&self, queue: QueueIx) -> bool {
        !self.waiting(queue).is_empty() && self.server.first_ready(queue).is_some()
    }

    pub(crate) fn is_tick_due(&self) -> bool {
        self.shell
            .deadline()
            .is_some_and(|deadline| deadline <= self.now)
    }

    /// When something is due next, if everything that can happen before has happened.
    pub(crate) fn next_moment(&self) -> Option<Millis> {
        let busy = !self.down.is_empty()
            || !self.answers.is_empty()
            || self.is_tick_due()
            || self.queues().any(|queue| self.can_serve(queue));
        let next = [self.shell.deadline(), self.server.next_event()]
            .into_iter()
            .flatten()
            .min();
        next.filter(|_| !busy)
    }

    /// Whether the shell owes the engine a new epoch, and how it comes by it.
    pub(crate) fn owes_epoch(&self) -> Option<Action> {
        if self.cut && !self.deaf {
            return Some(Action::Mend);
        }
        self.asked_epoch
            .then_some(Action::OpenEpoch { late_arrive: false })
    }

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

    /// Does one thing.
    pub(crate) fn step(&mut self, action: Action) -> Result<(), Violation> {
        match action {
            Action::Serve(queue) => self.serve(queue),
            Action::Receive(epoch, lane) => {
                let message = self.take_down(epoch, lane);
                self.turn(&[arrived(epoch, lane, &message)])?;
            }
            Action::ReceiveAll => {
                let mut events = Vec::new();
                for ((epoch, lane), messages) in std::mem::take(&mut self.down) {
                    events.extend(messages.iter().map(|message| arrived(epoch, lane, message)));
                }
                self.turn(&events)?;
            }
            Action::Hear => self.hear()?,
            Action::Finish(seq, verdict) => {
                if verdict == Verdict::Abandon {
                    self.budget.abandons -= 1;
                    self.disturbed = true; // It will be delivered again.
                }
                self.finish(&[(seq, verdict)])?;
            }
            Action::FinishAll => {
                let ends: Vec<_> = self
                    .handlers
                    .keys()
                    .map(|seq| (*seq, Verdict::Settle))
                    .collect();
                self.finish(&ends)?;
            }
            Action::Tick => self.turn(&[Event::Tick])?,
            Action::Pass => {
                self.now = self
                    .next_moment()
                    .expect("time passes when something is due");
                self.serve_time();
            }
            Action::OpenEpoch { late_arrive } => self.open_epoch(late_arrive)?,
            Action::Pause(queue) => {
                self.budget.pauses -= 1;
                self.paused[usize::from(queue.0)] = true;
                self.turn(&[Event::QueuePaused { queue }])?;
            }
            Action::Resume(queue) => {
                self.paused[usize::from(queue.0)] = false;
                self.turn(&[Event::QueueResumed { queue }])?;
            }
            Action::Cancel(seq) => {
                self.budget.cancels -= 1;
                self.turn(&[Event::Cancel { seq }])?;
            }
            Action::Drain => {
                self.budget.drains -= 1;
                self.draining = true;
                self.turn(&[Event::Drain])?;
            }
            Action::StopNow => {
                self.budget.stops -= 1;
                self.draining = true;
                self.turn(&[Event::StopNow])?;
            }
            Action::OtherAcks(seq) => self.server.ack(seq),
            Action::Notice => {
                self.noticed = true;
                self.turn(&[Event::Disconnected])?;
            }
            Action::Mend => {
                self.cut = false;
                self.noticed = false;
                self.open_epoch(false)?;
            }
            fault => self.fault(fault)?,
        }
        self.end_probes();
        self.check()
    }

    fn fault(&mut self, fault: Action) -> Result<(), Violation> {
        self.disturbed = true;
        if let Action::Reconnect { late_arrive } = fault {
            self.budget.reconnects -= 1;
            self.answers.clear();
            return self.open_epoch(late_arrive);
        }
        self.budget.faults -= 1;
        match fault {
            Action::LosePull(queue, index) => {
                self.server.waiting[usize::from(queue.0)].remove(index);
            }
            Action::EndPull(queue, index, status) => {
                let waiting = &mut self.server.waiting[usize::from(queue.0)];
                let ended = waiting.remove(index);
                if status == Status::Terminal {
                    waiting.clear(); // The others are gone too, and not told.
                }
                self.send_status(ended.epoch, ended.pull, status);
            }
            Action::LoseDown(epoch, lane) => drop(self.take_down(epoch, lane)),
            Action::LoseAnswer => drop(self.answers.pop_front()),
            Action::LoseNextSending => self.lose_next = true,
            Action::Cut => {
                self.cut = true;
                self.down.clear();
                self.answers.clear();
            }
            Action::Sleep(span) => {
                self.now = self.now + span;
                self.serve_time();
            }
            Action::OtherTakes(seq) => {
                let until = self.now + self.server.ack_wait;
                self.server.jobs.get_mut(&seq).expect("a ready job").place = Place::Others(until);
            }
            other => unreachable!("{other:?} is no fault"),
        }
        Ok(())
    }

    pub(crate) fn serve(&mut self, queue: QueueIx) {
        let served = self.server.serve(self.now, queue);
        if let Some((epoch, lane, seq, deliveries, pending)) = served {
            if self.cut {
                return;
            }
            let job = Down::Job {
                queue,
                seq,
                deliveries,
                pending,
            };
            self.down.entry((epoch, lane)).or_default().push_back(job);
        }
    }

    fn take_down(&mut self, epoch: Epoch, lane: Lane) -> Down {
        let messages = self
            .down
            .get_mut(&(epoch, lane))
            .expect("a message is on its way");
        let message = messages.pop_front().expect("a message is on its way");
        if messages.is_empty() {
            self.down.remove(&(epoch, lane));
        }
        message
    }

    fn send_status(&mut self, epoch: Epoch, pull: PullId, status: Status) {
        if self.cut {
            return;
        }
        let lane = self.down.entry((epoch, pull.lane())).or_default();
        lane.push_back(Down::Status { pull, status });
    }

    fn hear(&mut self) -> Result<(), Violation> {
        let event = match self.answers.pop_front().expect("an answer is on its way") {
            Answer::Settled(seq) => {
                self.settling.remove(&seq);
                Event::Settled { seq }
            }
            Answer::Extended(queue, batch) => Event::Extended { queue, batch },
            Answer::Backlog(queue) => Event::BacklogSeen {
                queue,
                backlog: self.server.backlog(queue),
            },
        };
        self.turn(&[event])
    }

    fn finish(&mut self, ends: &[(Seq, Verdict)]) -> Result<(), Violation> {
        let mut events = Vec::new();
        for (seq, verdict) in ends {
            self.handlers.remove(seq).expect("a running handler ends");
            self.stuck.remove(seq);
            self.ended.insert(*seq, *verdict);
            events.push(Event::Finished {
                seq: *seq,
                verdict: *verdict,
            });
        }
        self.turn(&events)?;
        self.ended.clear();
        Ok(())
    }

    fn open_epoch(&mut self, late_arrive: bool) -> Result<(), Violation> {
        self.asked_epoch = false;
        self.epoch = Epoch(self.epoch.0 + 1);
        for waiting in &mut self.server.waiting {
            waiting.clear();
        }
        if !late_arrive {
            self.down.clear();
        }
        self.disturbed = true;
        self.turn(&[Event::EpochChanged { epoch: self.epoch }])
    }

    /// What the server does by itself by now.
    fn serve_time(&mut self) {
        let now = self.now;
        self.server.lapse(now);
        let mut statuses = Vec::new();
        for waiting in &mut self.server.waiting {
            for pull in waiting.iter_mut() {
                if let Some((interval, next)) = &mut pull.heartbeat
                    && now >= *next
                {
                    *next = now + *interval;
                    statuses.push((pull.epoch, pull.pull, Status::Heartbeat));
                }
            }
            waiting.retain(|pull| {
                let over = pull.ends_at.is_some_and(|ends_at| now >= ends_at);
                if over {
                    let status = Status::Expired {
                        unfilled: Some(pull.left),
                    };
                    statuses.push((pull.epoch, pull.pull, status));
                }
                !over
            });
        }
        for (epoch, pull, status) in statuses {
            self.send_status(epoch, pull, status);
        }
    }

    /// Answers the pulls that do not wait, where nothing is left for them.
    fn end_probes(&mut self) {
        let mut ended = Vec::new();
        for queue in self.queues() {
            if self.server.first_ready(queue).is_none() {
                let waiting = &mut self.server.waiting[usize::from(queue.0)];
                ended.extend(waiting.extract_if(.., |pull| pull.ends_at.is_none()));
            }
        }
        for pull in ended {
            let status = Status::Expired { unfilled: None };
            self.send_status(pull.epoch, pull.pull, status);
        }
    }

    /// Hands events to the engine, and carries out what it wants done.
    pub(crate) fn turn(&mut self, events: &[Event]) -> Result<(), Violation> {
        let commands = self.shell.turn(self.now, events);
        let lost = self.lose_next || self.cut;
        for command in commands {
            self.carry_out(command, lost)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, command: Command, lost: bool) -> Result<(), Violation> {
        for seq in claims(&command) {
            self.check_holder(seq, &command)?;
        }
        match command {
            Command::Pull { .. } => self.pull(&command, lost)?,
            Command::Start { seq } => self.start(seq)?,
            Command::Refuse { seq } => {
                if !self.draining && !self.disturbed {
                    return Err(format!("{seq:?} is handed back though nothing went wrong"));
                }
                if !self.sending_is_lost(lost) {
                    self.server.nak(seq);
                }
            }
            Command::Settle { seq, verdict } => {
                if self.ended.get(&seq) != Some(&verdict) {
                    return Err(format!("{seq:?} is settled without having ended so"));
                }
                self.settling.insert(seq, verdict);
                self.ack(seq, lost);
            }
            Command::AckAgain { seq } => self.ack_settling(seq, lost)?,
            Command::Confirm { seqs } => {
                for seq in seqs {
                    self.ack_settling(seq, lost)?;
                }
            }
            Command::KeepAlive { queue, batch, seqs } => {
                if !self.sending_is_lost(lost) {
                    for seq in seqs {
                        self.server.extend(self.now, seq);
                    }
                    self.answers.push_back(Answer::Extended(queue, batch));
                }
            }
            Command::CancelHandler { seq, .. } => {
                let handler = self.handlers.get_mut(&seq);
                let Some(handler) = handler.filter(|handler| !handler.cancelled) else {
                    return Err(format!("{seq:?} is cancelled twice, or does not run"));
                };
                handler.cancelled = true;
            }
            Command::Forget { seq } => drop(self.settling.remove(&seq)),
            Command::ReportStuck { seq } => {
                let cancelled = self
                    .handlers
                    .get(&seq)
                    .is_some_and(|handler| handler.cancelled);
                if !cancelled || !self.stuck.insert(seq) {
                    return Err(format!("{seq:?} is reported as stuck, wrongly or twice"));
                }
            }
            Command::AskBacklog { queue } => {
                if !self.sending_is_lost(lost) {
                    self.answers.push_back(Answer::Backlog(queue));
                }
            }
            Command::NewEpoch | Command::Reconnect => self.asked_epoch = true,
            Command::Exit { .. } => self.exited = true,
            Command::Stopped => {
                if std::mem::replace(&mut self.stopped, true) {
                    return Err("stopped twice".into());
                }
            }
        }
        Ok(())
    }

    /// The first sending of a turn that is to be lost takes the others with it.
    fn sending_is_lost(&mut self, lost: bool) -> bool {
        if lost {
            self.lose_next = false;
        }
        lost
    }

    fn pull(&mut self, command: &Command, lost: bool) -> Result<(), Violation> {
        let Command::Pull {
            epoch,
            lane,
            queue,
            pull,
            batch,
            expires,
            heartbeat,
            no_wait,
        } = *command
        else {
            unreachable!("called for pulls")
        };
        let queue_at = usize::from(queue.0);
        if batch == 0 || self.paused[queue_at] || self.draining {
            return Err(format!("{command:?} must not be sent"));
        }
        if heartbeat.is_some_and(|heartbeat| heartbeat * 2 > expires) {
            return Err(format!("{command:?}: the server refuses such a heartbeat"));
        }
        if epoch == self.epoch && !self.sending_is_lost(lost) {
            let now = self.now;
            self.server.waiting[queue_at].push(Waiting {
                epoch,
                lane,
                pull,
                left: batch,
                ends_at: (!no_wait).then_some(now + expires),
                heartbeat: heartbeat.map(|interval| (interval, now + interval)),
            });
        }
        Ok(())
    }

    fn start(&mut self, seq: Seq) -> Result<(), Violation> {
        if self.settling.contains_key(&seq) {
            return Err(format!("{seq:?} is run again although it is done"));
        }
        if self.handlers.insert(seq, Handler::default()).is_some() {
            return Err(format!("{seq:?} is started while it runs"));
        }
        Ok(())
    }

    fn ack_settling(&mut self, seq: Seq, lost: bool) -> Result<(), Violation> {
        if !self.settling.contains_key(&seq) {
            return Err(format!("{seq:?} is acked and was not being settled"));
        }
        self.ack(seq, lost);
        Ok(())
    }

    fn ack(&mut self, seq: Seq, lost: bool) {
        if self.sending_is_lost(lost) {
            return;
        }
        match self.settling[&seq] {
            Verdict::HandBack => self.server.hand_back(seq),
            Verdict::Settle | Verdict::Abandon => self.server.ack(seq),
        }
        self.answers.push_back(Answer::Settled(seq));
    }

    /// Nothing may be said about a job by a worker that does not hold it.
    fn check_holder(&self, seq: Seq, command: &Command) -> Result<(), Violation> {
        match self.server.jobs.get(&seq).map(|job| &job.place) {
            Some(Place::Ours(until)) if self.now < *until => Ok(()),
            Some(Place::Acked) => Ok(()),
            place => Err(format!(
                "{command:?}, but {seq:?} is {place:?} at {}",
                self.now
            )),
        }
    }

    /// What must hold after every step; what the engine asserts itself comes on top.
    fn check(&self) -> Result<(), Violation> {
        let snapshot = self.shell.engine.snapshot();
        let replaced = if self.replace_stuck {
            self.stuck.len()
        } else {
            0
        };
        let holding = self.handlers.len() - replaced;
        if holding as u32 != snapshot.running {
            return Err(format!(
                "{holding} handlers hold slots, {} are counted",
                snapshot.running
            ));
        }
        if holding as u32 > self.slots {
            return Err(format!("{holding} handlers on {} slots", self.slots));
        }
        for seq in self.handlers.keys().filter(|_| !self.disturbed) {
            let place = &self.server.jobs[seq].place;
            if !matches!(place, Place::Ours(until) if self.now < *until) {
                return Err(format!(
                    "{seq:?} runs and is {place:?} though nothing went wrong"
                ));
            }
        }
        if !self.disturbed && !self.draining {
            let asked: u32 = self
                .server
                .waiting
                .iter()
                .flatten()
                .map(|pull| pull.left)
                .sum();
            let is_job = |message: &&Down| matches!(message, Down::Job { .. });
            let coming = self.down.values().flatten().filter(is_job).count() as u32;
            if asked + coming > snapshot.promised {
                return Err(format!(
                    "{asked} + {coming} may come, {} counted",
                    snapshot.promised
                ));
            }
        }
        Ok(())
    }

    /// Whether each job has been run to its end (or the worker has stopped, if told to).
    pub(crate) fn is_done(&self) -> bool {
        if self.draining || self.deaf {
            return self.stopped || self.exited;
        }
        self.server.jobs.iter().all(|(seq, job)| {
            job.place == Place::Acked || self.handlers.get(seq).is_some_and(|handler| handler.long)
        })
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&mut self) {
        self.budget = Budget::default();
        self.lose_next = false;
    }

    /// The connection is dead for good, and looks alive.
    pub(crate) fn deafen(&mut self) {
        self.deaf = true;
        self.disturbed = true;
        self.cut = true;
        self.noticed = false;
        self.down.clear();
        self.answers.clear();
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched
    }

    /// Giving up is right if nothing can come through.
    pub(crate) fn gave_up_wrongly(&self) -> bool {
        self.exited && !self.cut
    }

    /// Some handlers will not end by themselves; one slot at least is left.
    pub(crate) fn prolong_handlers(&mut self) {
        let count = self.handlers.len().min(self.slots as usize - 1);
        for handler in self.handlers.values_mut().take(count) {
            handler.long = true;
        }
    }

    /// The same state told relative to its own time, with pulls numbered in order.
    pub(crate) fn canonical(&self) -> Self {
        let mut pulls = self.shell.engine.open_pulls();
        pulls.extend(
            self.server
                .waiting
                .iter()
                .flatten()
                .map(|waiting| waiting.pull),
        );
        pulls.extend(
            self.down
                .values()
                .flatten()
                .filter_map(|message| match message {
                    Down::Status { pull, .. } => Some(*pull),
                    Down::Job { .. } => None,
                }),
        );
        pulls.sort_unstable();
        pulls.dedup();
        let rename = |pull: PullId| {
            let rank = pulls.binary_search(&pull).expect("all pulls are listed") as u64;
            PullId(pull.0 & 0xffff | rank << 16)
        };
        let mut world = self.clone();
        let now = self.now;
        world.shell.engine.make_canonical(now, rename);
        world.now = Millis(0);
        for waiting in world.server.waiting.iter_mut().flatten() {
            waiting.pull = rename(waiting.pull);
            waiting.ends_at = waiting.ends_at.map(|ends_at| ends_at.since(now));
            waiting.heartbeat = waiting
                .heartbeat
                .map(|(every, next)| (every, next.since(now)));
        }
        for job in world.server.jobs.values_mut() {
            job.deliveries = 0;
            if let Place::Ours(until) | Place::Others(until) = &mut job.place {
                *until = until.since(now);
            }
        }
        for message in world.down.values_mut().flatten() {
            match message {
                Down::Status { pull, .. } => *pull = rename(*pull),
                Down::Job { deliveries, .. } => *deliveries = 0,
            }
        }
        for answer in &mut world.answers {
            if let Answer::Extended(queue, batch) = answer {
                *batch = self.shell.engine.keep_alive_age(*queue, *batch);
            }
        }
        world
    }
}

fn arrived(epoch: Epoch, lane: Lane, message: &Down) -> Event {
    match *message {
        Down::Job {
            queue,
            seq,
            deliveries,
            pending,
        } => Event::Delivered {
            epoch,
            lane,
            queue,
            seq,
            deliveries,
            pending,
        },
        Down::Status { pull, status } => Event::PullStatus {
            epoch,
            pull,
            status,
        },
    }
}
