//! A stage that runs as a task of its own for as long as the process needs it.

use tokio::task::JoinSet;

/// A running stage. It is aborted when this is dropped.
#[derive(Debug)]
pub(super) struct Part<T> {
    name: &'static str,
    /// One task, or none once it was seen to end.
    task: JoinSet<T>,
}

impl<T: Send + 'static> Part<T> {
    pub(super) fn start(
        name: &'static str,
        stage: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        let mut task = JoinSet::new();
        task.spawn(stage);
        Self { name, task }
    }

    /// Waits for the end; `None` when it was seen before.
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn ended(&mut self) -> anyhow::Result<Option<T>> {
        match self.task.join_next().await {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(error)) => {
                Err(anyhow::Error::new(error).context(format!("the {} failed", self.name)))
            }
        }
    }
}
