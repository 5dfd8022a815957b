//! An HTTP proxy that fails on purpose, by rules, and remembers every request. Each request has a connection of its own, so attempts can be counted.
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::Instant,
};

use crate::table::{Kind, Row};

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This instead of the real answer; the request is not passed on.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// Neither read on nor answered, ever.
    Silent,
    /// The connection is reset; the request is not passed on.
    Reset,
    /// Half of its body is read, then the connection is reset.
    CutRequest,
    /// It is passed on and done; instead of the answer the connection is reset.
    LostAnswer,
    /// Half of the answer's body, then the connection ends.
    CutAnswer,
    /// The answer takes this long.
    Slow(Duration),
    /// The answer begins, and after its first moments nothing more comes.
    Freeze,
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    /// Method, path, target and the beginning of the body.
    pub text: String,
}

struct Rule {
    needles: Vec<String>,
    fault: Fault,
    left: usize,
}

struct Shared {
    base: String,
    client: reqwest::Client,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
}

/// The proxy; it ends with this value.
pub struct HttpProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    closed_until: watch::Sender<Option<Instant>>,
    accepting: JoinHandle<()>,
}

impl Drop for HttpProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn holds(text: &str, needles: &[String]) -> bool {
    needles.iter().all(|needle| text.contains(needle.as_str()))
}

impl HttpProxy {
    /// In front of `base`, listening at `address`.
    pub async fn start(address: SocketAddr, base: &str, client: reqwest::Client) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { base: base.to_owned(), client, rules: Mutex::default(), seen: Mutex::default() });
        let (closed_until, closed) = watch::channel(None);
        let accepting = tokio::spawn(accept(listener, address, shared.clone(), closed));
        Self { address, shared, closed_until, accepting }
    }
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }
    /// The next `times` requests that hold all these words meet this fault.
    pub fn strike(&self, needles: &[String], fault: Fault, times: usize) {
        self.shared.rules.lock().unwrap().push(Rule { needles: needles.to_vec(), fault, left: times });
    }
    /// What a line of the table says; gives the times of the requests that it meets.
    pub async fn strike_as(
        &self,
        row: &Row,
        needles: Vec<String>,
        fault: impl FnOnce(&Row) -> Fault,
    ) -> impl FnOnce(Instant) -> Vec<Instant> {
        if row.kind == Kind::Refused {
            self.refuse_for(Duration::from_secs(2));
            // Until it has closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
        } else {
            self.strike(&needles, fault(row), row.times);
        }
        move |since| self.seen(&needles, since).into_iter().map(|seen| seen.at).collect()
    }
    /// As [`HttpProxy::strike`], before whatever else would meet them.
    pub fn strike_first(&self, needles: &[String], fault: Fault, times: usize) {
        self.shared.rules.lock().unwrap().insert(0, Rule { needles: needles.to_vec(), fault, left: times });
    }
    /// Nothing is struck any more.
    pub fn forgive(&self) {
        self.shared.rules.lock().unwrap().clear();
    }
    /// Nobody listens for this long.
    pub fn refuse_for(&self, time: Duration) {
        self.closed_until.send_replace(Some(Instant::now() + time));
    }
    /// Requests that hold all these words and came at this moment or later.
    pub fn seen(&self, needles: &[String], since: Instant) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().iter().filter(|seen| seen.at >= since && holds(&seen.text, needles)).cloned().collect()
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>, mut closed: watch::Receiver<Option<Instant>>) {
    let mut listener = Some(listener);
    let mut connections = tokio::task::JoinSet::new();
    loop {
        if listener.is_none() {
            listener = Some(TcpListener::bind(address).await.unwrap());
        }
        let Some(open) = &listener else { continue };
        tokio::select! {
            Ok((stream, _)) = open.accept() => {
                let shared = shared.clone();
                connections.spawn(async move {
                    // A client that has gone is what many faults lead to.
                    drop(shared.serve(stream).await);
                });
            }
            Ok(()) = closed.changed() => {
                listener = None;
                let until = *closed.borrow_and_update();
                if let Some(until) = until {
                    tokio::time::sleep_until(until).await;
                }
            }
        }
    }
}

struct Head {
    method: reqwest::Method,
    path: String,
    headers: Vec<(String, String)>,
    /// What came behind it already.
    rest: Vec<u8>,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
    fn text(&self, body: &[u8]) -> String {
        let target = self.header("x-amz-target").unwrap_or_default();
        let body = String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned();
        format!("{} {}\n{target}\n{body}", self.method, self.path)
    }
}

async fn read_head(stream: &mut TcpStream) -> std::io::Result<Option<Head>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = text.split("\r\n");
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().parse().unwrap();
    let path = first.next().unwrap_or_default().to_owned();
    let headers = lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    Ok(Some(Head { method, path, headers, rest: bytes[end + 4..].to_vec() }))
}

/// The whole body, or as much of it as `most` says.
async fn read_body(stream: &mut TcpStream, head: &Head, most: usize) -> std::io::Result<Vec<u8>> {
    if head.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let mut body = head.rest.clone();
    let chunked = head.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked"));
    let length: usize = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while if chunked { !body.ends_with(b"0\r\n\r\n") } else { body.len() < length.min(most) } {
        if stream.read_buf(&mut body).await? == 0 {
            break;
        }
    }
    Ok(if chunked { unchunked(&body) } else { body })
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&rest[..at]).split(';').next().unwrap_or("0"), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        body.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[at + 2 + size + 2..];
    }
    body
}

fn reset(stream: &TcpStream) {
    stream.set_zero_linger().unwrap();
}

impl Shared {
    fn fault_of(&self, text: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| rule.left > 0 && holds(text, &rule.needles))?;
        rule.left = if rule.left == usize::MAX { rule.left } else { rule.left - 1 };
        Some(rule.fault.clone())
    }
    fn note(&self, text: String) {
        self.seen.lock().unwrap().push(Seen { at: Instant::now(), text });
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let Some(head) = read_head(&mut stream).await? else { return Ok(()) };
        let mut text = head.text(&[]);
        let mut fault = self.fault_of(&text);
        match fault {
            Some(Fault::Silent) => {
                self.note(text);
                return std::future::pending().await;
            }
            Some(Fault::CutRequest) => {
                let length: usize = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
                read_body(&mut stream, &head, length / 2).await?;
                self.note(text);
                reset(&stream);
                return Ok(());
            }
            _ => {}
        }
        let body = read_body(&mut stream, &head, usize::MAX).await?;
        text = head.text(&body);
        fault = fault.or_else(|| self.fault_of(&text));
        self.note(text);
        match &fault {
            Some(Fault::Silent) => return std::future::pending().await,
            Some(Fault::Reset) => {
                reset(&stream);
                return Ok(());
            }
            Some(Fault::Answer { status, headers, body }) => {
                let mut answer = format!("HTTP/1.1 {status} Fault\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
                headers.iter().for_each(|(name, value)| answer.push_str(&format!("{name}: {value}\r\n")));
                stream.write_all(format!("{answer}\r\n{body}").as_bytes()).await?;
                return stream.shutdown().await;
            }
            _ => {}
        }
        let mut request = self.client.request(head.method.clone(), format!("{}{}", self.base, head.path));
        for (name, value) in &head.headers {
            if !["connection", "content-length", "transfer-encoding", "expect"].contains(&name.to_lowercase().as_str()) {
                request = request.header(name, value);
            }
        }
        let answer = request.body(body).send().await.map_err(std::io::Error::other)?;
        self.answer(stream, answer, fault).await
    }

    async fn answer(&self, mut stream: TcpStream, mut answer: reqwest::Response, fault: Option<Fault>) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {}\r\nconnection: close\r\n", answer.status());
        for (name, value) in answer.headers() {
            if !["connection", "transfer-encoding"].contains(&name.as_str()) {
                head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
            }
        }
        head.push_str("\r\n");
        match fault {
            Some(Fault::LostAnswer) => {
                answer.bytes().await.map_err(std::io::Error::other)?;
                reset(&stream);
                return Ok(());
            }
            Some(Fault::CutAnswer) => {
                // The length says what will not come.
                let body = answer.bytes().await.map_err(std::io::Error::other)?;
                if !head.to_lowercase().contains("content-length") {
                    head = head.replacen("\r\n", &format!("\r\ncontent-length: {}\r\n", body.len()), 1);
                }
                stream.write_all(head.as_bytes()).await?;
                stream.write_all(&body[..body.len() / 2]).await?;
                return stream.shutdown().await;
            }
            Some(Fault::Slow(time)) => {
                let body = answer.bytes().await.map_err(std::io::Error::other)?;
                if body.len() < 1024 {
                    tokio::time::sleep(time).await;
                    stream.write_all(head.as_bytes()).await?;
                    stream.write_all(&body).await?;
                    return stream.shutdown().await;
                }
                stream.write_all(head.as_bytes()).await?;
                for piece in body.chunks(body.len().div_ceil(20)) {
                    tokio::time::sleep(time / 20).await;
                    stream.write_all(piece).await?;
                }
                return stream.shutdown().await;
            }
            Some(Fault::Freeze) => {
                stream.write_all(head.as_bytes()).await?;
                let end = Instant::now() + Duration::from_secs(1);
                while let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(end, answer.chunk()).await {
                    stream.write_all(&chunk).await?;
                }
                return std::future::pending().await;
            }
            _ => {}
        }
        stream.write_all(head.as_bytes()).await?;
        while let Some(chunk) = answer.chunk().await.map_err(std::io::Error::other)? {
            stream.write_all(&chunk).await?;
        }
        stream.shutdown().await
    }
}
