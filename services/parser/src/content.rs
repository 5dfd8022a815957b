//! From the bytes in the bucket to the bytes of the rows: counted, hashed, decompressed, never more than the caps allow.
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use async_compression::tokio::bufread::GzipDecoder;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader, ReadBuf};

use crate::{config::Caps, refused::Refused};

/// Until this much has come out the ratio says nothing: small files compress absurdly well.
const RATIO_FROM: u64 = 1024 * 1024;
const BUFFER: usize = 64 * 1024;

/// What has been read from the bucket so far.
#[derive(Clone, Default)]
pub struct Stored(Arc<Mutex<(Sha256, u64)>>);

impl Stored {
    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }
    /// SHA-256 so far, in hexadecimal.
    pub fn sha256(&self) -> String {
        hex::encode(self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone().finalize())
    }
}

/// The rows' bytes.
pub type Content = Pin<Box<dyn AsyncBufRead + Send>>;

/// Opens a file: plain, or gzip if it begins as gzip does (RFC 1952, §2.3.1), whatever its name or type say.
pub async fn open(stored: impl AsyncRead + Send + 'static, caps: Caps) -> io::Result<(Content, Stored)> {
    let progress = Stored::default();
    let counted = Counted { inner: Box::pin(stored), progress: progress.clone(), cap: caps.stored_bytes };
    let mut reader = BufReader::with_capacity(BUFFER, counted);
    // One byte may come alone; the second is needed to tell.
    let mut start = Vec::with_capacity(2);
    (&mut reader).take(2).read_to_end(&mut start).await?;
    let gzip = start == [0x1f, 0x8b];
    let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(reader));
    let content: Content = if gzip {
        let mut decoder = GzipDecoder::new(whole);
        decoder.multiple_members(true);
        let bounded = Bounded { inner: Box::pin(decoder), stored: progress.clone(), caps, bytes: 0 };
        Box::pin(BufReader::with_capacity(BUFFER, bounded))
    } else {
        Box::pin(whole)
    };
    Ok((content, progress))
}

/// Reads what is left, so that the checksum covers all of it.
pub async fn drain(content: &mut Content) -> io::Result<()> {
    loop {
        let read = content.fill_buf().await?.len();
        if read == 0 {
            return Ok(());
        }
        content.as_mut().consume(read);
    }
}

/// The file's fault inside an I/O error, if it is one: caps and broken gzip arrive through `AsyncRead`.
pub fn refused(error: &io::Error) -> Option<Refused> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()).cloned()
}

/// The storage's own error, so that a cut connection is kept apart from a broken gzip stream: the first is tried again, the second never.
#[derive(Debug, thiserror::Error)]
#[error("the object broke off: {0}")]
struct BrokeOff(io::Error);

struct Counted {
    inner: Pin<Box<dyn AsyncRead + Send>>,
    progress: Stored,
    cap: u64,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(self.inner.as_mut().poll_read(cx, buffer)).map_err(|error| io::Error::new(error.kind(), BrokeOff(error)))?;
        let new = &buffer.filled()[before..];
        let mut progress = self.progress.0.lock().unwrap_or_else(PoisonError::into_inner);
        progress.0.update(new);
        progress.1 += new.len() as u64;
        if progress.1 > self.cap {
            return Poll::Ready(Err(io::Error::other(Refused::TooMuch { what: "stored bytes", limit: self.cap })));
        }
        Poll::Ready(Ok(()))
    }
}

struct Bounded {
    inner: Pin<Box<dyn AsyncRead + Send>>,
    stored: Stored,
    caps: Caps,
    bytes: u64,
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(self.inner.as_mut().poll_read(cx, buffer)).map_err(|error| {
            // What is neither the storage's nor a cap is the decoder's, whatever kind it has.
            let passed = error.get_ref().is_some_and(|inner| inner.is::<BrokeOff>() || inner.is::<Refused>());
            if passed { error } else { io::Error::new(io::ErrorKind::InvalidData, Refused::Gzip(error.to_string())) }
        })?;
        self.bytes += (buffer.filled().len() - before) as u64;
        if self.bytes > self.caps.content_bytes {
            return Poll::Ready(Err(io::Error::other(Refused::TooMuch {
                what: "bytes once decompressed",
                limit: self.caps.content_bytes,
            })));
        }
        if self.bytes > RATIO_FROM && self.bytes / self.stored.bytes().max(1) > self.caps.ratio {
            return Poll::Ready(Err(io::Error::other(Refused::TooMuch {
                what: "decompressed bytes for each stored one",
                limit: self.caps.ratio,
            })));
        }
        Poll::Ready(Ok(()))
    }
}
