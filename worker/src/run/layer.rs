//! What goes around handlers: `tower` layers, and closures for what needs no type of its own.
//!
//! Underneath, a handler is a [`tower_service::Service`] of a [`Context`] (the job and its attempt).
//! A worker without layers calls its handlers as they are; each layer costs a clone of its service
//! and one allocation a job.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{self, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::handler::{Handler, HandlerFuture};
use super::task_error::BoxError;
use super::{Context, Output, TaskError};

/// Something around a handler, as a function from handler to handler.
pub(crate) type Wrap = Box<dyn Fn(Handler) -> Handler + Send + Sync>;

/// A task's handler with the layers inside of it, as a service: what a layer is put around.
///
/// Always ready: a job only gets here when it has a slot.
#[derive(Clone)]
pub struct TaskService {
    handler: Handler,
}

impl std::fmt::Debug for TaskService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskService").finish_non_exhaustive()
    }
}

impl Service<Context> for TaskService {
    type Response = Output;
    type Error = TaskError;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), TaskError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, context: Context) -> HandlerFuture {
        (self.handler)(context)
    }
}

/// The rest of the way to a handler: what a closure around it calls, or not.
pub struct Next {
    handler: Handler,
}

impl Next {
    /// Goes on to the next layer, or to the handler.
    pub async fn run(self, context: Context) -> Result<Output, TaskError> {
        (self.handler)(context).await
    }
}

/// A handler that is a service.
pub(crate) fn service<S, T>(service: S) -> Handler
where
    S: Service<Context, Response = T> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    T: Into<Output>,
{
    Arc::new(move |context| {
        // A service may take one call at a time; each job has its own.
        let mut service = service.clone();
        Box::pin(async move {
            let called = async {
                poll_fn(|cx| service.poll_ready(cx)).await?;
                service.call(context).await
            };
            let output = called.await.map_err(|error| TaskError::unbox(error.into()));
            output.map(Into::into)
        })
    })
}

/// A `tower` layer.
pub(crate) fn layer<L>(layer: L) -> Wrap
where
    L: Layer<TaskService> + Send + Sync + 'static,
    L::Service: Service<Context, Response = Output> + Clone + Send + Sync + 'static,
    <L::Service as Service<Context>>::Error: Into<BoxError>,
    <L::Service as Service<Context>>::Future: Send + 'static,
{
    Box::new(move |handler| service(layer.layer(TaskService { handler })))
}

/// A closure.
pub(crate) fn around<F, R>(around: F) -> Wrap
where
    F: Fn(Context, Next) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Output, TaskError>> + Send + 'static,
{
    let around = Arc::new(around);
    Box::new(move |handler| {
        let around = around.clone();
        Arc::new(move |context| {
            let handler = handler.clone();
            Box::pin(around(context, Next { handler }))
        })
    })
}

/// The handler with all of them around it, the first one outermost.
pub(crate) fn wrapped<'w>(
    handler: Handler,
    wraps: impl DoubleEndedIterator<Item = &'w Wrap>,
) -> Handler {
    wraps.rev().fold(handler, |handler, wrap| wrap(handler))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use serde_json::json;
    use tower::timeout::TimeoutLayer;
    use tower::util::{BoxCloneSyncServiceLayer, MapResponseLayer};

    use super::*;
    use crate::run::tests::{builder, failed, job, permanent, run};
    use crate::run::{Ending, TaskOptions};

    /// Puts a letter before the value, as a closure.
    fn before(
        mark: &'static str,
    ) -> impl Fn(Context, Next) -> HandlerFuture + Send + Sync + 'static {
        move |context: Context, next: Next| {
            Box::pin(async move { Ok(put(mark, next.run(context).await?)) })
        }
    }

    fn put(mark: &str, mut output: Output) -> Output {
        output.body = [mark.as_bytes(), &output.body].concat().into();
        output
    }

    fn value(ending: Ending) -> String {
        match ending {
            Ending::Succeeded { value, .. } => String::from_utf8(value.to_vec()).unwrap(),
            other => panic!("expected a success, found {other:?}"),
        }
    }

    #[tokio::test]
    async fn layers_and_closures_go_around_handlers_the_first_outermost() {
        let worker = builder()
            .await
            .around(before("a"))
            .task_layer("t", MapResponseLayer::new(|output| put("d", output)))
            .layer(MapResponseLayer::new(|output| put("b", output)))
            .task_raw("t", |_, body| async move { Ok(Output::bytes(body, "x/y")) })
            .task_raw("u", |_, body| async move { Ok(Output::bytes(body, "x/y")) })
            .layer(BoxCloneSyncServiceLayer::new(MapResponseLayer::new(
                |output| put("c", output),
            )))
            .build()
            .unwrap();
        assert_eq!(value(run(&worker, job(&json!(1))).await), "abcd1");
        let mut other = job(&json!(1));
        other.task = "u".parse().unwrap();
        assert_eq!(value(run(&worker, other).await), "abc1");
    }

    #[tokio::test]
    async fn an_error_of_a_layers_own_is_tried_again_and_a_handlers_word_comes_through() {
        let worker = builder()
            .await
            .layer(TimeoutLayer::new(Duration::from_millis(20)))
            .task("t", |_, word: String| async move {
                match word.as_str() {
                    "never" => std::future::pending().await,
                    "snooze" => Err(TaskError::snooze(Duration::from_secs(9))),
                    _ => Err::<(), _>(TaskError::permanent(word)),
                }
            })
            .build()
            .unwrap();
        let ending = async |word: &str| run(&worker, job(&json!(word))).await;
        assert_eq!(failed(ending("never").await), "request timed out");
        assert_eq!(permanent(ending("gone").await), "gone");
        let delay = Duration::from_secs(9);
        assert_eq!(ending("snooze").await, Ending::Snoozed { delay });
    }

    /// Lets a number of calls through and fails the others; not ready before it was asked twice.
    #[derive(Clone)]
    struct Gate<S> {
        inner: S,
        left: Arc<AtomicU32>,
        asked: bool,
    }

    impl<S: Service<Context>> Service<Context> for Gate<S>
    where
        S::Error: From<TaskError>,
    {
        type Response = S::Response;
        type Error = S::Error;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), S::Error>> {
            if !std::mem::replace(&mut self.asked, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.left.load(Ordering::Relaxed) == 0 {
                return Poll::Ready(Err(TaskError::permanent("no more").into()));
            }
            self.inner.poll_ready(cx)
        }

        fn call(&mut self, context: Context) -> S::Future {
            assert!(self.asked, "called before it was ready");
            self.left.fetch_sub(1, Ordering::Relaxed);
            self.inner.call(context)
        }
    }

    #[tokio::test]
    async fn a_service_is_called_when_it_is_ready_and_its_clones_share_what_it_shares() {
        let left = Arc::new(AtomicU32::new(2));
        let gate = tower_layer::layer_fn(move |inner: TaskService| Gate {
            inner,
            left: left.clone(),
            asked: false,
        });
        let service = tower::service_fn(|context: Context| async move {
            Ok::<_, std::io::Error>(context.job().args.clone())
        });
        let worker = builder()
            .await
            .task_service("t", TaskOptions::new(), service)
            .layer(gate)
            .build()
            .unwrap();
        for _ in 0..2 {
            assert_eq!(value(run(&worker, job(&json!(1))).await), "1");
        }
        assert_eq!(permanent(run(&worker, job(&json!(1))).await), "no more");
    }

    #[tokio::test]
    async fn a_layer_around_a_task_that_is_not_there_is_a_problem() {
        let layer = TimeoutLayer::new(Duration::from_secs(1));
        let builder = builder().await.task("t", |_, (): ()| async { Ok(()) });
        let problems = builder.task_layer("mail", layer).build().unwrap_err();
        assert!(problems.to_string().contains("mail"), "{problems}");
    }
}
