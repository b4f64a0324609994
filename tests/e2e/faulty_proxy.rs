//! A bad network before a registry: a proxy that spoils what a test wants spoilt, and counts what passes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::registry::Registry;

/// Longer than the service waits, short enough for a test.
const STALL: Duration = Duration::from_millis(2500);
/// How much of a layer comes before something happens to it.
const BEFORE: usize = 100_000;

/// What happens to an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing: the next fault is for the next one.
    None,
    /// The connection ends within the body.
    Cut,
    /// Nothing more comes within the body.
    Stall,
    /// Bytes of the body are others.
    Garbage,
    /// The head promises more than comes.
    Longer,
    /// The body is not the one that was asked for, and as long as its head says.
    Shorter,
    /// No answer but this status, with `Retry-After: 1`.
    Refuse(u16),
    /// It is elsewhere: at the registry behind.
    Redirect,
    /// It is elsewhere: here, for ever.
    RedirectLoop,
    /// No HTTP at all.
    Noise,
    /// Of a body sent, so many bytes get through; then both connections end.
    CutUpload(u64),
    /// The same, behind a proxy that passes on whole bodies only: nothing gets through.
    SwallowUpload(u64),
}

impl Fault {
    /// The requests that it happens to.
    fn methods(self) -> &'static [&'static str] {
        match self {
            Fault::None | Fault::CutUpload(_) | Fault::SwallowUpload(_) => &["PATCH"],
            _ => &["GET"],
        }
    }
}

/// A proxy before a registry that spoils the answers for one kind of path.
pub(crate) struct Proxy {
    pub(crate) address: String,
    pub(crate) plan: Arc<Plan>,
}

/// What is to happen, and what has.
#[derive(Default)]
pub(crate) struct Plan {
    /// The faults in their order, each with what a path holds that has it, and how often it happens.
    pub(crate) faults: Mutex<Vec<(Fault, &'static str, usize)>>,
    spoilt: AtomicUsize,
    /// Bytes of bodies that came from the client.
    pub(crate) sent: AtomicU64,
    /// The first line of every request.
    pub(crate) requests: Mutex<Vec<String>>,
}

impl Plan {
    /// What is to happen to a request.
    fn fault(&self, head: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (fault, part, times) = faults.first_mut()?;
        let (method, path) = head.split_once(' ')?;
        let path = path.split(' ').next()?;
        if !fault.methods().contains(&method) || !path.contains(*part) {
            return None;
        }
        let fault = *fault;
        *times -= 1;
        if *times == 0 {
            faults.remove(0);
        }
        self.spoilt.fetch_add(1, Ordering::SeqCst);
        Some(fault)
    }
}

impl Proxy {
    pub(crate) fn start(registry: &Registry) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let plan = Arc::new(Plan::default());
        let (shared, behind) = (plan.clone(), registry.address().to_owned());
        // It ends with the test's process; a client that goes away ends its thread.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (plan, behind) = (shared.clone(), behind.clone());
                std::thread::spawn(move || serve(client, &plan, &behind));
            }
        });
        Self { address, plan }
    }

    pub(crate) fn plan(&self, fault: Fault, path: &'static str, times: usize) {
        *self.plan.faults.lock().unwrap() = vec![(fault, path, times)];
        self.plan.spoilt.store(0, Ordering::SeqCst);
    }

    pub(crate) fn spoilt(&self) -> usize {
        self.plan.spoilt.load(Ordering::SeqCst)
    }
}

/// Passes one request on, and its answer back as the plan wants it. `None`: somebody went away, which ends it.
fn serve(mut client: TcpStream, plan: &Plan, behind: &str) -> Option<()> {
    let head = read_head(&mut client)?;
    let path = head.split(' ').nth(1)?.to_owned();
    let line = head.lines().next()?.to_owned();
    plan.requests.lock().unwrap().push(line);
    let fault = plan.fault(&head);
    let simple = |status: &str, header: &str| {
        format!(
            "HTTP/1.1 {status} Spoilt\r\nContent-Length: 0\r\nConnection: close\r\n{header}\r\n"
        )
    };
    match fault {
        Some(Fault::Refuse(401)) => {
            let challenge = "WWW-Authenticate: Basic realm=\"spoilt\"\r\n";
            return client.write_all(simple("401", challenge).as_bytes()).ok();
        }
        Some(Fault::Refuse(status)) => {
            let answer = simple(&status.to_string(), "Retry-After: 1\r\n");
            return client.write_all(answer.as_bytes()).ok();
        }
        Some(Fault::Redirect) => {
            let to = format!("Location: http://{behind}{path}\r\n");
            return client.write_all(simple("307", &to).as_bytes()).ok();
        }
        Some(Fault::RedirectLoop) => {
            let to = format!("Location: {path}\r\n");
            return client.write_all(simple("307", &to).as_bytes()).ok();
        }
        Some(Fault::Noise) => {
            return client
                .write_all(b"\x16\x03nothing that a client knows\r\n\r\n")
                .ok();
        }
        _ => {}
    }
    let mut registry = TcpStream::connect(behind).ok()?;
    let one_request: String = head
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("connection:"))
        .map(|line| format!("{line}\r\n"))
        .collect();
    let one_request = format!(
        "{}Connection: close\r\n\r\n",
        one_request.trim_end_matches("\r\n").to_owned() + "\r\n"
    );
    if let Some(Fault::SwallowUpload(bytes)) = fault {
        return pass_body(&head, &mut client, &mut std::io::sink(), bytes, plan);
    }
    registry.write_all(one_request.as_bytes()).ok()?;
    if let Some(Fault::CutUpload(bytes)) = fault {
        return pass_body(&head, &mut client, &mut registry, bytes, plan);
    }
    pass_body(&head, &mut client, &mut registry, u64::MAX, plan)?;
    let answer = read_head(&mut registry)?;
    let mut body = Vec::new();
    registry.read_to_end(&mut body).ok()?;
    let mut answer = format!("{answer}Connection: close\r\n\r\n");
    let whole = body.len();
    match fault {
        Some(Fault::Cut | Fault::Stall) => body.truncate(BEFORE.min(whole / 2)),
        Some(Fault::Garbage) => body
            .iter_mut()
            .skip(whole / 2)
            .take(64)
            .for_each(|byte| *byte ^= 0x55),
        Some(Fault::Longer) => answer = relengthen(&answer, whole, whole + 1000),
        Some(Fault::Shorter) => {
            body.truncate(whole / 2);
            answer = relengthen(&answer, whole, whole / 2);
        }
        _ => {}
    }
    client.write_all(answer.as_bytes()).ok()?;
    client.write_all(&body).ok()?;
    if fault == Some(Fault::Stall) {
        std::thread::sleep(STALL);
    }
    Some(())
}

/// Passes the body of a request on, its chunks as they are, until so many bytes have passed.
fn pass_body(
    head: &str,
    from: &mut TcpStream,
    to: &mut impl std::io::Write,
    mut limit: u64,
    plan: &Plan,
) -> Option<()> {
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let mut pass = |from: &mut TcpStream, to: &mut dyn std::io::Write, bytes: u64| {
        let wanted = bytes.min(limit);
        let passed = std::io::copy(&mut from.take(wanted), &mut &mut *to).ok()?;
        plan.sent.fetch_add(passed, Ordering::SeqCst);
        limit -= passed;
        (passed == bytes && limit > 0).then_some(())
    };
    if let Some(length) = field("content-length") {
        return pass(from, to, length.parse().unwrap());
    }
    if field("transfer-encoding").is_none() {
        return Some(());
    }
    loop {
        let line = read_line(from)?;
        let bytes = u64::from_str_radix(line.trim(), 16).unwrap();
        to.write_all(line.as_bytes()).ok()?;
        if bytes == 0 {
            return pass(from, to, 2);
        }
        pass(from, to, bytes + 2)?;
    }
}

fn read_line(stream: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).ok()?;
        line.push(byte[0]);
    }
    String::from_utf8(line).ok()
}

fn relengthen(head: &str, from: usize, to: usize) -> String {
    let (from, to) = (
        format!("Content-Length: {from}\r\n"),
        format!("Content-Length: {to}\r\n"),
    );
    assert!(head.contains(&from), "{head}");
    head.replace(&from, &to)
}

/// The lines of a head, each with its end, without the empty one.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    head.truncate(head.len() - 2);
    String::from_utf8(head).ok()
}
