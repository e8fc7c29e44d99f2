//! A stage that panics has a defect. Its request is answered like one that failed, in its API's shape; all others go on.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::rejection::{Failure, Rejection};

/// Runs stages to their end, which a panic is too. What they share with other requests is behind its own locks, and
/// those are taken although they are poisoned.
///
/// # Errors
/// Those of the stages, and [`Failure::Internal`] for a panic. Where it was stands in the diagnostic log.
pub async fn contained<T>(stages: impl Future<Output = Result<T, Rejection>>) -> Result<T, Rejection> {
    let mut stages = pin!(stages);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| stages.as_mut().poll(cx))) {
        Ok(polled) => polled,
        Err(_) => Poll::Ready(Err(Failure::Internal { detail: "a stage panicked".to_owned() }.into())),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N6: at any turn, also after it has waited.
    #[tokio::test]
    async fn a_stage_that_panics_has_failed() {
        let stage = async {
            tokio::task::yield_now().await;
            assert_eq!(1, 2);
            Ok(())
        };
        let rejection = contained(stage).await.unwrap_err();
        assert_eq!(rejection.to_string(), "a defect of the gateway: a stage panicked");
        assert_eq!(contained(async { Ok(1) }).await.unwrap(), 1);
    }
}
