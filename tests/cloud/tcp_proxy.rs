//! A TCP proxy that fails on purpose: each new connection, or all that are open, by a switch. What goes through it may be TLS or any protocol.
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::Instant,
};

/// How a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    Works,
    /// It is open and carries nothing.
    Silent,
    /// It is reset.
    Reset,
    /// Questions arrive, answers do not.
    LosesAnswers,
    /// As that, from the first question of Kafka's protocol on that has this number.
    LosesAnswersFrom(i16),
    /// Every piece takes this long.
    Slow(Duration),
}

/// The proxy; it and its connections end with this value.
pub struct TcpProxy {
    pub address: SocketAddr,
    line: watch::Sender<Line>,
    opened: Arc<Mutex<Vec<Instant>>>,
    lost: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl TcpProxy {
    /// In front of `upstream`. The first connections are as `first` says, the others work until the switch says otherwise; nobody listens for `refused`.
    pub async fn start(address: SocketAddr, upstream: SocketAddr, first: Vec<Line>, refused: Duration) -> Self {
        let (line, switch) = watch::channel(Line::Works);
        let opened = Arc::new(Mutex::new(Vec::new()));
        let times = opened.clone();
        let lost = Arc::new(AtomicUsize::new(0));
        let losing = lost.clone();
        let bound = TcpListener::bind(address).await.unwrap();
        let address = bound.local_addr().unwrap();
        let bound = if refused.is_zero() { Some(bound) } else { None };
        let accepting = tokio::spawn(async move {
            tokio::time::sleep(refused).await;
            let listener = match bound {
                Some(listener) => listener,
                None => TcpListener::bind(address).await.unwrap(),
            };
            let (mut first, mut connections) = (first.into_iter(), JoinSet::new());
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                times.lock().unwrap().push(Instant::now());
                connections.spawn(carry(stream, upstream, first.next(), switch.clone(), losing.clone()));
            }
        });
        Self { address, line, opened, lost, accepting }
    }
    /// From now on every connection without a fate of its own is like this.
    pub fn switch(&self, line: Line) {
        self.line.send_replace(line);
    }
    /// How many questions of the number of [`Line::LosesAnswersFrom`] came.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
    /// When connections were made.
    pub fn opened(&self) -> Vec<Instant> {
        self.opened.lock().unwrap().clone()
    }
}

async fn carry(client: TcpStream, upstream: SocketAddr, fate: Option<Line>, switch: watch::Receiver<Line>, lost: Arc<AtomicUsize>) {
    // A sender of its own keeps this connection at its fate.
    let (fixed, own) = watch::channel(fate.unwrap_or(Line::Works));
    let line = if fate.is_some_and(|fate| fate != Line::Works) { own } else { switch };
    if *line.borrow() == Line::Reset {
        client.set_zero_linger().unwrap();
        return;
    }
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
    let mut switched = line.clone();
    let reset = tokio::select! {
        () = pump(&mut from_client, &mut to_server, line.clone(), Way::There(&lost)) => false,
        () = pump(&mut from_server, &mut to_client, line, Way::Back(&lost)) => false,
        _ = switched.wait_for(|line| *line == Line::Reset) => true,
    };
    if reset {
        to_client.as_ref().set_zero_linger().unwrap();
        // Else it would say goodbye first.
        to_client.forget();
    }
    drop(fixed);
}

enum Way<'a> {
    There(&'a AtomicUsize),
    Back(&'a AtomicUsize),
}

async fn pump(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, mut line: watch::Receiver<Line>, way: Way<'_>) {
    let mut piece = vec![0; 16 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else { return };
        let now = *line.borrow_and_update();
        match (now, &way) {
            (Line::Slow(time), _) => tokio::time::sleep(time).await,
            (Line::LosesAnswers, Way::Back(_)) => continue,
            // A request is its length in four bytes and then its number in two.
            (Line::LosesAnswersFrom(number), Way::There(lost)) if piece[4..6] == number.to_be_bytes() => {
                lost.fetch_add(1, Ordering::Relaxed);
            }
            (Line::LosesAnswersFrom(_), Way::Back(lost)) if lost.load(Ordering::Relaxed) > 0 => continue,
            // Held back until the line works again, or for ever.
            (Line::Silent, _) => drop(line.wait_for(|line| *line != Line::Silent).await),
            _ => {}
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
