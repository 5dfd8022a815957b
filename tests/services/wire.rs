//! A wire between the services and what they need, which can be cut: then connections break and new ones are refused, or nothing moves.
use std::{net::SocketAddr, pin::pin};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the wire does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Whole,
    /// As when the process behind it is gone.
    Cut,
    /// As when a network swallows everything.
    Silent,
}

/// One wire.
#[derive(Clone)]
pub struct Wire {
    pub name: &'static str,
    state: watch::Sender<State>,
}

impl Wire {
    /// Listens on `here` and passes everything on to `there`.
    pub async fn new(name: &'static str, here: SocketAddr, there: SocketAddr) -> Self {
        let (state, watched) = watch::channel(State::Whole);
        let listener = TcpListener::bind(here).await.unwrap_or_else(|error| panic!("{name} on {here}: {error}"));
        tokio::spawn(serve(listener, here, there, watched));
        Self { name, state }
    }

    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn serve(listener: TcpListener, here: SocketAddr, there: SocketAddr, mut state: watch::Receiver<State>) {
    let mut listener = Some(listener);
    loop {
        let now = *state.borrow_and_update();
        if now == State::Cut {
            listener = None;
        } else if listener.is_none() {
            listener = Some(TcpListener::bind(here).await.unwrap_or_else(|error| panic!("{here} again: {error}")));
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            accepted = async { listener.as_ref().expect("asked only if there is one").accept().await }, if listener.is_some() => {
                if let Ok((stream, _)) = accepted {
                    tokio::spawn(pass(stream, there, state.clone()));
                }
            }
        }
    }
}

async fn pass(mut here: TcpStream, there: SocketAddr, mut state: watch::Receiver<State>) {
    let Ok(mut there) = TcpStream::connect(there).await else { return };
    let mut copying = pin!(tokio::io::copy_bidirectional(&mut here, &mut there));
    loop {
        let now = *state.borrow_and_update();
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            _ = &mut copying, if now == State::Whole => return,
            () = std::future::ready(()), if now == State::Cut => return,
        }
    }
}
