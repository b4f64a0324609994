//! The poll loop: who asks is answered, output goes to the log and to the attached, input to the process, and at the end
//! how it ended is written down before anybody is told.
//! Never waits anywhere but in `poll`, save while the container is created.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cgroup::{self, Freezer};
use super::client::{Client, Heard};
use super::json_log::JsonLog;
use super::now_ns;
use super::process::Process;
use super::start::Job;
use super::stdio::{Output, Read};
use crate::spec::{ConsoleSize, Stdin};
use crate::state_dir::{self, StateDir};
use crate::wire::{
    Answer, AttachRequest, Exit, Phase, Request, StartError, StartErrorKind, State, Whom,
};

/// How much input is kept for a process that does not read; then its clients wait.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// How much is read at once: docker's size of a frame.
const READ_BYTES: usize = 32 << 10;

/// What an ended process can have left in a pipe or terminal: a pipe's largest size for an unprivileged process.
/// More can only come from a process that an exec left behind, which does not count.
const REST_BYTES_MAX: usize = 1 << 20;

/// How long the rest of a terminal's output may take to come through the kernel.
const TERMINAL_REST: Duration = Duration::from_millis(100);

/// How long a prepared shim waits for its first client; the service connects within a millisecond or has died.
const FIRST_CLIENT: Duration = Duration::from_secs(30);

/// How often the patience with slow clients is looked at.
const PATIENCE_TICK: Duration = Duration::from_millis(500);

/// A shim at work.
pub(super) struct Serve {
    dir: StateDir,
    job: Job,
    log: Option<JsonLog>,
    listener: Option<UnixListener>,
    clients: Vec<Client>,
    /// Whether a client that stays has ever come.
    was_met: bool,
    life: Life,
    /// The terminal's size, if it was set before there was one.
    size: Option<ConsoleSize>,
    /// What goes to the process next.
    input: Vec<u8>,
    /// Whether input ends after that.
    input_ends: bool,
}

/// Where its process is.
enum Life {
    /// Not started.
    Prepared { since: Instant },
    /// Started.
    Running(Process),
    /// Ended, or never came to be.
    Over,
}

/// Who is ready, by what `poll` said.
enum Ready {
    Listener,
    Process,
    Output(Output),
    Input,
    Client(usize, PollFlags),
}

impl Serve {
    /// Listens for clients.
    pub(super) fn listen(dir: StateDir, job: Job, log: Option<JsonLog>) -> io::Result<Self> {
        let listener = dir.listen()?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            dir,
            job,
            log,
            listener: Some(listener),
            clients: Vec::new(),
            was_met: false,
            life: Life::Prepared {
                since: Instant::now(),
            },
            size: None,
            input: Vec::new(),
            input_ends: false,
        })
    }

    /// Serves until the process has ended and all who were attached have everything.
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.is_done() {
            for ready in self.wait()? {
                self.handle(ready)?;
            }
            let now = Instant::now();
            self.clients
                .iter_mut()
                .for_each(|client| client.check_patience(now));
            self.clients.retain(|client| !client.is_gone());
        }
        if matches!(self.life, Life::Prepared { .. }) {
            self.dir.close_socket()?;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        match &self.life {
            // A shim that nobody knows any more shall not stay.
            Life::Prepared { since } => {
                let met = self.clients.iter().any(Client::stays);
                !met && (self.was_met || since.elapsed() > FIRST_CLIENT)
            }
            Life::Running(_) => false,
            Life::Over => self.clients.is_empty(),
        }
    }

    fn takes_input(&self) -> bool {
        matches!(self.life, Life::Running(_)) && self.input.len() < INPUT_BYTES_MAX
    }

    /// Waits until something can be done.
    fn wait(&self) -> io::Result<Vec<Ready>> {
        let mut asked: Vec<(Ready, BorrowedFd<'_>, PollFlags)> = Vec::new();
        if let Some(listener) = &self.listener {
            asked.push((Ready::Listener, listener.as_fd(), PollFlags::IN));
        }
        if let Life::Running(process) = &self.life {
            asked.push((Ready::Process, process.end_fd(), PollFlags::IN));
            // While somebody's backlog is full the output stays where it is.
            if !self.clients.iter().any(Client::is_full) {
                let outputs = process.streams.outputs();
                asked.extend(outputs.map(|(from, fd)| (Ready::Output(from), fd, PollFlags::IN)));
            }
            let input = process.streams.input().filter(|_| !self.input.is_empty());
            if let Some(fd) = input {
                asked.push((Ready::Input, fd, PollFlags::OUT));
            }
        }
        let takes_input = self.takes_input();
        for (index, client) in self.clients.iter().enumerate() {
            if client.is_mute(takes_input) {
                continue;
            }
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, client.wants_read(takes_input));
            flags.set(PollFlags::OUT, client.wants_write());
            asked.push((Ready::Client(index, flags), client.stream().as_fd(), flags));
        }
        let mut polled: Vec<_> = asked
            .iter()
            .map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        let limit = self
            .patience()
            .and_then(|limit| Timespec::try_from(limit).ok());
        match poll(&mut polled, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            other => other?,
        };
        let happened: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        drop(polled);
        let ready = asked
            .into_iter()
            .zip(happened)
            .filter(|(_, flags)| !flags.is_empty());
        Ok(ready
            .map(|((who, _, _), flags)| match who {
                Ready::Client(index, _) => Ready::Client(index, flags),
                who => who,
            })
            .collect())
    }

    fn patience(&self) -> Option<Duration> {
        let unmet = matches!(self.life, Life::Prepared { .. }) && !self.was_met;
        let pressed = unmet || self.clients.iter().any(Client::is_pressed);
        pressed.then_some(PATIENCE_TICK)
    }

    fn handle(&mut self, ready: Ready) -> io::Result<()> {
        match ready {
            Ready::Listener => self.accept(),
            Ready::Output(from) => {
                self.pass_output(from);
            }
            Ready::Input => self.pass_input(),
            Ready::Process => self.end()?,
            Ready::Client(index, flags) => self.hear(index, flags),
        }
        Ok(())
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        // A client that left before it was heard is none.
        if let Ok((stream, _)) = listener.accept()
            && let Ok(client) = Client::new(stream)
        {
            self.clients.push(client);
        }
    }

    fn hear(&mut self, index: usize, flags: PollFlags) {
        let takes_input = self.takes_input();
        let Some(client) = self.clients.get_mut(index) else {
            return;
        };
        if flags.contains(PollFlags::OUT) {
            client.send();
        }
        if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            client.hang_up();
        }
        let heard = if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && client.wants_read(takes_input)
        {
            client.receive()
        } else {
            Heard::Nothing
        };
        match heard {
            Heard::Nothing => {}
            Heard::Request(request) => self.answer(index, request),
            Heard::Input(bytes) => {
                self.input.extend(bytes);
                self.pass_input();
            }
            Heard::InputEnd => {
                if self.job.process().stdin == Stdin::Once {
                    self.input_ends = true;
                    self.pass_input();
                }
            }
        }
    }

    fn answer(&mut self, index: usize, request: Request) {
        let stays = matches!(request, Request::Attach(_) | Request::Wait);
        let outcome = match request {
            Request::Start => self.start(),
            Request::Attach(wanted) => {
                self.attach(index, wanted);
                Ok(())
            }
            Request::Wait => {
                self.clients
                    .get_mut(index)
                    .into_iter()
                    .for_each(Client::wait);
                Ok(())
            }
            Request::Resize { rows, columns } => self.resize(ConsoleSize { rows, columns }),
            Request::Signal { signal, whom } => self.signal(signal, whom),
            Request::Pause => self.freeze(Freezer::Frozen),
            Request::Resume => self.freeze(Freezer::Thawed),
            Request::State => Ok(()),
        };
        self.was_met |= stays;
        let failed_start = outcome.is_err() && matches!(self.life, Life::Over);
        let answer = match outcome {
            Ok(()) => Answer::Done(self.state()),
            Err(error) => Answer::Refused(error),
        };
        if let Some(client) = self.clients.get_mut(index) {
            client.answer(&answer);
        }
        if failed_start {
            self.say_goodbye();
        }
    }

    fn state(&self) -> State {
        let without = |phase| State { phase, pid: None };
        match &self.life {
            Life::Prepared { .. } => without(Phase::Prepared),
            Life::Running(process) => process.state(),
            Life::Over => without(Phase::Exited),
        }
    }

    fn process(&mut self) -> Result<(&mut Process, &Job), StartError> {
        match &mut self.life {
            Life::Running(process) => Ok((process, &self.job)),
            _ => Err(StartError::other("the process is not running")),
        }
    }

    fn attach(&mut self, index: usize, wanted: AttachRequest) {
        let terminal = self.job.process().tty;
        if let Some(client) = self.clients.get_mut(index) {
            client.attach(wanted, terminal);
        }
    }

    fn start(&mut self) -> Result<(), StartError> {
        if !matches!(self.life, Life::Prepared { .. }) {
            return Err(StartError::other("it was started before"));
        }
        match self.job.start(&self.dir).and_then(Process::hold) {
            Ok(process) => {
                self.life = Life::Running(process);
                // The process must go before us if memory runs out; where we may not say so, it is as it was.
                std::fs::write("/proc/self/oom_score_adj", "-999").unwrap_or_default();
                // It runs; that its terminal takes no size is no reason to say it does not.
                self.size
                    .map(|size| self.resize(size))
                    .transpose()
                    .unwrap_or_default();
                Ok(())
            }
            Err(error) => {
                self.life = Life::Over;
                let code = match error.kind {
                    StartErrorKind::NotFound => 127,
                    StartErrorKind::PermissionDenied => 126,
                    StartErrorKind::BadRequest | StartErrorKind::Other => 128,
                };
                let exit = Exit {
                    code,
                    oom_killed: false,
                    finished_at_ns: now_ns(),
                    trouble: Some(error.message.clone()),
                };
                self.write(&exit).map_err(|_| error.clone())?;
                Err(error)
            }
        }
    }

    fn resize(&mut self, size: ConsoleSize) -> Result<(), StartError> {
        self.size = Some(size);
        let Ok((process, _)) = self.process() else {
            return Ok(());
        };
        let resized = process.streams.resize(size);
        resized.map_err(|error| StartError::other(format!("resizing the terminal: {error}")))
    }

    fn signal(&mut self, number: i32, whom: Whom) -> Result<(), StartError> {
        let (process, job) = self.process()?;
        process.signal(number, whom, job)
    }

    fn freeze(&mut self, wanted: Freezer) -> Result<(), StartError> {
        let (process, job) = self.process()?;
        process.freeze(wanted, job)
    }

    /// Takes output once and gives it to the log and the attached.
    fn pass_output(&mut self, from: Output) -> Read {
        let Life::Running(process) = &mut self.life else {
            return Read::End;
        };
        let streams = &mut process.streams;
        let mut buffer = [0; READ_BYTES];
        let read = streams.read(from, &mut buffer);
        let terminal = streams.is_terminal();
        if let Read::Bytes(length) = read {
            let bytes = buffer.get(..length).unwrap_or_default();
            if let Some(log) = &mut self.log {
                log.write(from, bytes, now_ns());
            }
            self.clients
                .iter_mut()
                .for_each(|client| client.output(from, bytes, terminal));
        }
        read
    }

    /// Gives the process what input it takes.
    fn pass_input(&mut self) {
        let Life::Running(Process { streams, .. }) = &mut self.life else {
            return;
        };
        let Some(fd) = streams.input() else {
            // Nobody will read it.
            self.input.clear();
            return;
        };
        while !self.input.is_empty() {
            match rustix::io::write(fd, &self.input) {
                Ok(0) | Err(rustix::io::Errno::AGAIN) => return,
                Ok(written) => drop(self.input.drain(..written)),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    // The process has closed its input.
                    self.input.clear();
                    streams.close_input();
                    return;
                }
            }
        }
        if self.input_ends {
            streams.close_input();
        }
    }

    /// The process has ended: takes the rest of its output, cleans up, writes the exit, and then tells everybody.
    fn end(&mut self) -> io::Result<()> {
        let Life::Running(process) = &self.life else {
            return Ok(());
        };
        let Some(code) = process.reap()? else {
            return Ok(());
        };
        let finished_at_ns = now_ns();
        self.take_rest();
        let mut trouble = self.log.as_mut().and_then(|log| {
            log.finish(finished_at_ns);
            log.trouble()
        });
        let mut oom_killed = false;
        if self.job.is_container() {
            oom_killed = cgroup::oom_killed(self.job.container());
            if let Err(error) = cgroup::remove(self.job.container()) {
                trouble.get_or_insert(format!("removing the cgroups: {error}"));
            }
        }
        self.life = Life::Over;
        let exit = Exit {
            code,
            oom_killed,
            finished_at_ns,
            trouble,
        };
        let written = self.write(&exit);
        self.say_goodbye();
        written
    }

    /// Writes down how it ended.
    fn write(&self, exit: &Exit) -> io::Result<()> {
        if self.job.is_remembered() {
            state_dir::write_durably(&self.dir.exit(), exit)
        } else {
            state_dir::write_whole(&self.dir.exit(), exit)
        }
    }

    /// Takes what the ended process left in its pipes, whether its clients keep up or not: it is not much.
    fn take_rest(&mut self) {
        for from in [Output::Stdout, Output::Stderr] {
            let mut taken = 0usize;
            while taken < REST_BYTES_MAX {
                match self.pass_output(from) {
                    Read::Bytes(length) => taken = taken.saturating_add(length),
                    Read::NotNow if self.terminal_has_more() => {}
                    Read::NotNow | Read::End => break,
                }
            }
        }
    }

    /// A terminal's output goes through the kernel's background work.
    fn terminal_has_more(&self) -> bool {
        let Life::Running(Process { streams, .. }) = &self.life else {
            return false;
        };
        if !streams.is_terminal() {
            return false;
        }
        let limit = Timespec::try_from(TERMINAL_REST).ok();
        streams.outputs().any(|(_, fd)| {
            let mut asked = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
            matches!(poll(&mut asked, limit.as_ref()), Ok(ready) if ready > 0)
        })
    }

    /// Closes the door, tells those who wait, and lets the attached have the rest.
    fn say_goodbye(&mut self) {
        // Whoever knocks from now on finds exit.json; if the name is gone already, so much the better.
        self.dir.close_socket().unwrap_or_default();
        self.listener = None;
        self.clients.iter_mut().for_each(Client::part);
    }
}
