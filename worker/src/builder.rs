//! Putting a worker together: what it serves, with which handlers.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use repull::client::Client;
use repull::id::{TaskName, WorkerId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_layer::Layer;
use tower_service::Service;

use crate::config::{Order, Problems, ServedQueue, WorkerConfig};
use crate::metrics::SlotMonitor;
use crate::run::{
    self, BoxError, Context, Handler, Next, Output, Registry, States, Task, TaskError, TaskOptions,
    TaskService, Wrap,
};
use crate::startup::Pages;

/// A worker: pulls as many jobs as it has free slots, runs them, settles them, pulls again.
///
/// ```no_run
/// use repull::client::Client;
/// use repull::connect::Settings;
/// use repull_worker::{Context, Shutdown, Worker};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct Mail {
///     to: String,
///     subject: String,
/// }
///
/// # struct Mailer;
/// # impl Mailer {
/// #     fn new() -> Self { Mailer }
/// #     async fn send(&self, _: &Mail) -> Result<String, std::io::Error> { unimplemented!() }
/// # }
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(&Settings::for_servers("nats://127.0.0.1:4222")).await?;
/// let worker = Worker::builder(client)
///     .queue("default")
///     .slots(64)
///     .state(Mailer::new())
///     .task("mail.send", |context: Context, mail: Mail| async move {
///         let receipt = context.state::<Mailer>()?.send(&mail).await?;
///         Ok(receipt)
///     })
///     .build()?;
/// worker.run(Shutdown::on_signals()?).await?;
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    pub(crate) client: Client,
    pub(crate) config: WorkerConfig,
    pub(crate) registry: Arc<Registry>,
    pub(crate) monitor: SlotMonitor,
    pub(crate) pages: Option<Pages>,
}

impl Worker {
    /// Its slots, readable while it runs.
    pub fn monitor(&self) -> SlotMonitor {
        self.monitor.clone()
    }

    /// Starts to put a worker together, with the defaults of [`WorkerConfig`].
    pub fn builder(client: Client) -> WorkerBuilder {
        WorkerBuilder {
            client,
            config: WorkerConfig::default(),
            queues: Vec::new(),
            tasks: HashMap::new(),
            wraps: Vec::new(),
            task_wraps: Vec::new(),
            states: States::default(),
            problems: Problems::default(),
            pages: None,
        }
    }

    /// What it was told.
    pub fn config(&self) -> &WorkerConfig {
        &self.config
    }

    /// What it can run.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("config", &self.config)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

/// A worker in the making. What is wrong is reported by [`WorkerBuilder::build`], all at once.
#[must_use]
pub struct WorkerBuilder {
    client: Client,
    config: WorkerConfig,
    queues: Vec<ServedQueue>,
    tasks: HashMap<TaskName, Task>,
    /// Around all handlers, the outermost first.
    wraps: Vec<Wrap>,
    /// Around the handler of one task, inside of those around all.
    task_wraps: Vec<(String, Wrap)>,
    states: States,
    problems: Problems,
    pages: Option<Pages>,
}

impl WorkerBuilder {
    /// Takes everything from `config`; queues named by [`WorkerBuilder::queue`] replace its own.
    pub fn config(mut self, config: WorkerConfig) -> Self {
        self.config = config;
        self
    }

    /// Goes on with pages that are served already; [`WorkerConfig::http`] is then not looked at.
    pub fn pages(mut self, pages: Pages) -> Self {
        self.pages = Some(pages);
        self
    }

    /// Serves a queue, written `name` or `name=weight`. Without any it serves `default`.
    pub fn queue(mut self, queue: impl AsRef<str>) -> Self {
        match queue.as_ref().parse() {
            Ok(queue) => self.queues.push(queue),
            Err(error) => self.problems.say(format!("{error}")),
        }
        self
    }

    /// How queues with a backlog share the slots.
    pub fn order(mut self, order: Order) -> Self {
        self.config.order = order;
        self
    }

    /// Jobs that may run at once, over all queues.
    pub fn slots(mut self, slots: u32) -> Self {
        self.config.slots = slots;
        self
    }

    /// The id under which it is listed.
    pub fn id(mut self, id: WorkerId) -> Self {
        self.config.id = id;
        self
    }

    /// How long running jobs may go on after a drain began.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout = timeout;
        self
    }

    /// How long a handler may take to end by itself after its cancellation.
    pub fn cancel_grace(mut self, grace: Duration) -> Self {
        self.config.cancel_grace = grace;
        self
    }

    /// Gives all handlers a value, found by its type with [`Context::state`].
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        if !self.states.insert(state) {
            let name = std::any::type_name::<T>();
            self.problems.say(format!(
                "state of type `{name}` is given twice, expected one of each type"
            ));
        }
        self
    }

    /// Puts a `tower` layer around the handlers of all tasks, also of those that are added later.
    /// The first one is the outermost.
    ///
    /// The layer sees a service of a [`Context`] that gives an [`Output`] or a [`TaskError`]. Any
    /// other error that it makes is a failed attempt, tried again when the backoff says so. What it
    /// waits for, it waits for in the job's slot and in the attempt's time.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use repull_worker::Worker;
    /// use tower::timeout::TimeoutLayer;
    ///
    /// # fn example(client: repull::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = Worker::builder(client)
    ///     .layer(TimeoutLayer::new(Duration::from_secs(5)))
    ///     .task("echo", |_, value: serde_json::Value| async move { Ok(value) })
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<TaskService> + Send + Sync + 'static,
        L::Service: Service<Context, Response = Output> + Clone + Send + Sync + 'static,
        <L::Service as Service<Context>>::Error: Into<BoxError>,
        <L::Service as Service<Context>>::Future: Send + 'static,
    {
        self.wraps.push(run::layer(layer));
        self
    }

    /// Puts a `tower` layer around the handler of one task, inside of the layers around all. The
    /// task may be added later.
    pub fn task_layer<L>(mut self, task: impl AsRef<str>, layer: L) -> Self
    where
        L: Layer<TaskService> + Send + Sync + 'static,
        L::Service: Service<Context, Response = Output> + Clone + Send + Sync + 'static,
        <L::Service as Service<Context>>::Error: Into<BoxError>,
        <L::Service as Service<Context>>::Future: Send + 'static,
    {
        let task = task.as_ref().to_owned();
        self.task_wraps.push((task, run::layer(layer)));
        self
    }

    /// Puts a closure around the handlers of all tasks: a layer for which no type is needed. Order
    /// and meaning are those of [`WorkerBuilder::layer`].
    ///
    /// ```no_run
    /// use std::time::Instant;
    /// use repull_worker::{Context, Next, Worker};
    ///
    /// # fn example(client: repull::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let worker = Worker::builder(client)
    ///     .around(|context: Context, next: Next| async move {
    ///         let started = Instant::now();
    ///         let result = next.run(context.clone()).await;
    ///         println!("{} took {:?}", context.job().task, started.elapsed());
    ///         result
    ///     })
    ///     .task("echo", |_, value: serde_json::Value| async move { Ok(value) })
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn around<F, R>(mut self, around: F) -> Self
    where
        F: Fn(Context, Next) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Output, TaskError>> + Send + 'static,
    {
        self.wraps.push(run::around(around));
        self
    }

    /// Handles the jobs of a task: JSON arguments in, a value out that is stored as JSON.
    ///
    /// Arguments that can't be read as `A` fail the job for good, with the field and the reason.
    pub fn task<A, T, F, R>(self, name: impl AsRef<str>, handler: F) -> Self
    where
        F: Fn(Context, A) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, TaskError>> + Send + 'static,
        A: DeserializeOwned + 'static,
        T: Serialize + 'static,
    {
        self.task_with(name, TaskOptions::default(), handler)
    }

    /// [`WorkerBuilder::task`] with options for its jobs.
    pub fn task_with<A, T, F, R>(
        self,
        name: impl AsRef<str>,
        options: TaskOptions,
        handler: F,
    ) -> Self
    where
        F: Fn(Context, A) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, TaskError>> + Send + 'static,
        A: DeserializeOwned + 'static,
        T: Serialize + 'static,
    {
        self.handler(name.as_ref(), options, run::typed(handler))
    }

    /// Handles the jobs of a task whose arguments may be anything: the handler gets their bytes, and
    /// their media type as `context.job().content_type`.
    pub fn task_raw<T, F, R>(self, name: impl AsRef<str>, handler: F) -> Self
    where
        F: Fn(Context, Bytes) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, TaskError>> + Send + 'static,
        T: Into<Output> + 'static,
    {
        self.task_raw_with(name, TaskOptions::default(), handler)
    }

    /// [`WorkerBuilder::task_raw`] with options for its jobs.
    pub fn task_raw_with<T, F, R>(
        self,
        name: impl AsRef<str>,
        options: TaskOptions,
        handler: F,
    ) -> Self
    where
        F: Fn(Context, Bytes) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, TaskError>> + Send + 'static,
        T: Into<Output> + 'static,
    {
        self.handler(name.as_ref(), options, run::raw(handler))
    }

    /// Handles the jobs of a task by a `tower` service, cloned for each job. Its arguments are in
    /// `context.job().args`.
    pub fn task_service<S, T>(self, name: impl AsRef<str>, options: TaskOptions, service: S) -> Self
    where
        S: Service<Context, Response = T> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        T: Into<Output> + 'static,
    {
        self.handler(name.as_ref(), options, run::service(service))
    }

    /// Checks everything and makes the worker.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn build(mut self) -> Result<Worker, Problems> {
        if !self.queues.is_empty() {
            self.config.queues = self.queues;
        }
        if self.tasks.is_empty() && self.problems.is_empty() {
            self.problems
                .say("the worker has no task, expected at least one");
        }
        if let Err(problems) = self.config.validate() {
            self.problems.extend(problems);
        }
        for (task, _) in &self.task_wraps {
            if !self.tasks.keys().any(|name| name.as_str() == task) {
                self.problems
                    .add("task of a layer", task, "a task of this worker");
            }
        }
        self.problems.into_result()?;
        for (name, task) in &mut self.tasks {
            let own = self.task_wraps.iter();
            let own = own.filter(|(task, _)| task == name.as_str());
            let wraps = self.wraps.iter().chain(own.map(|(_, wrap)| wrap));
            task.handler = run::wrapped(task.handler.clone(), wraps);
        }
        let registry = Registry::new(self.tasks, Arc::new(self.states), &self.config);
        Ok(Worker {
            client: self.client,
            config: self.config,
            registry: Arc::new(registry),
            monitor: self
                .pages
                .as_ref()
                .map(|pages| pages.monitor.clone())
                .unwrap_or_default(),
            pages: self.pages,
        })
    }

    /// Notes that something given to the worker can't be used.
    pub(crate) fn problem(mut self, problem: String) -> Self {
        self.problems.say(problem);
        self
    }

    pub(crate) fn handler(mut self, name: &str, options: TaskOptions, handler: Handler) -> Self {
        let name = match TaskName::new(name) {
            Ok(name) => name,
            Err(error) => {
                self.problems.say(error.to_string());
                return self;
            }
        };
        if options.max_attempts == Some(0) {
            self.problems
                .add(format!("max_attempts of task `{name}`"), 0, "at least 1");
        }
        let task = Task { handler, options };
        if self.tasks.insert(name.clone(), task).is_some() {
            self.problems.add("task", name, "each task once");
        }
        self
    }
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("config", &self.config)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}
