//! Answers bounded in time: whoever does not read one must not hold its connection for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream that gives up when what is to be written is not gone in time, however slowly the other
/// end reads: a byte now and then is no progress that counts.
pub(super) struct Bounded<S> {
    stream: S,
    limit: Duration,
    /// Runs from the moment at which the other end makes us wait, until all is written.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Bounded<S> {
    pub(super) fn new(stream: S, limit: Duration) -> Self {
        Self {
            stream,
            limit,
            end: None,
        }
    }

    /// What a write came to, unless its time is over.
    fn in_time<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_pending() {
            let limit = self.limit;
            let end = self.end.get_or_insert_with(|| Box::pin(sleep(limit)));
            if end.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.end = None;
        }
        self.in_time(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.in_time(context, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::{Instant, interval};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Writes 100 bytes to somebody who reads one every so often; says how long that took.
    async fn write_to(pace: Duration) -> (io::Result<()>, Duration) {
        let (ours, mut theirs) = duplex(1);
        let mut ours = Bounded::new(ours, LIMIT);
        let reader = tokio::spawn(async move {
            let mut pace = interval(pace);
            loop {
                pace.tick().await;
                if theirs.read_u8().await.is_err() {
                    return;
                }
            }
        });
        let start = Instant::now();
        let result = async {
            ours.write_all(&[7; 100]).await?;
            ours.flush().await
        };
        let result = result.await;
        let took = start.elapsed();
        reader.abort();
        (result, took)
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_is_slow_is_waited_for_and_one_that_only_trickles_is_not() {
        let (result, _) = write_to(Duration::from_millis(50)).await;
        result.expect("written in five seconds");
        let (result, took) = write_to(Duration::from_millis(500)).await;
        let error = result.expect_err("would take fifty seconds");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            took >= LIMIT && took < LIMIT + Duration::from_secs(1),
            "{took:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_starts_anew_with_each_answer() {
        let (ours, mut theirs) = duplex(1);
        let mut ours = Bounded::new(ours, LIMIT);
        let reader = tokio::spawn(async move {
            let mut pace = interval(Duration::from_millis(500));
            loop {
                pace.tick().await;
                if theirs.read_u8().await.is_err() {
                    return;
                }
            }
        });
        for _ in 0..5 {
            ours.write_all(&[7; 10]).await.expect("in time");
            ours.flush().await.expect("in time");
        }
        reader.abort();
    }
}
