//! The routes of further processes in a container, but for their streams.

use axum::http::StatusCode;
use nacre_cli::api;

use super::answer::{self, Outcome};
use super::call::Call;
use crate::engine::{Error, ExecPhase, ExecRequest};
use crate::runtime::AttachRequest;
use crate::runtime::spec::{ConsoleSize, ProcessSpec, Stdin};

pub(crate) async fn create(mut call: Call, name: String) -> Outcome {
    let asked: api::ExecCreateRequest = call.json().await?;
    let keys = super::streams::detach_keys(&asked.detach_keys)?;
    let request = ExecRequest {
        process: ProcessSpec {
            args: asked.cmd.unwrap_or_default(),
            env: asked.env.unwrap_or_default(),
            cwd: asked.working_dir,
            user: asked.user,
            groups: Vec::new(),
            tty: asked.tty,
            console_size: asked.console_size.and_then(size),
            stdin: if asked.attach_stdin {
                Stdin::Once
            } else {
                Stdin::Null
            },
        },
        privileged: asked.privileged,
        attach: AttachRequest {
            stdin: asked.attach_stdin,
            stdout: asked.attach_stdout,
            stderr: asked.attach_stderr,
            detach_keys: keys,
        },
        detach_keys: asked.detach_keys,
    };
    let id = call
        .work(move |engine| engine.create_exec(&name, request))
        .await?;
    answer::json_with(StatusCode::CREATED, &api::IdResponse { id })
}

/// Height and width; none of them may be 0.
pub(crate) fn size([rows, columns]: [u32; 2]) -> Option<ConsoleSize> {
    let size = ConsoleSize {
        rows: u16::try_from(rows).ok()?,
        columns: u16::try_from(columns).ok()?,
    };
    (size.rows > 0 && size.columns > 0).then_some(size)
}

fn asked_size(call: &Call) -> Result<ConsoleSize, Error> {
    let number = |key: &str| -> Result<u16, Error> {
        let missing = || Error::invalid(format!("invalid value for {key}: \"\""));
        call.params.number(key)?.ok_or_else(missing)
    };
    Ok(ConsoleSize {
        rows: number("h")?,
        columns: number("w")?,
    })
}

pub(crate) async fn resize(call: Call, id: String) -> Outcome {
    let size = asked_size(&call)?;
    call.work(move |engine| engine.resize_exec(&id, size))
        .await?;
    Ok(answer::status(StatusCode::OK))
}

pub(crate) async fn resize_container(call: Call, name: String) -> Outcome {
    let size = asked_size(&call)?;
    call.work(move |engine| engine.resize_container(&name, size))
        .await?;
    Ok(answer::status(StatusCode::OK))
}

pub(crate) fn inspect(call: &Call, id: &str) -> Outcome {
    let exec = call.engine.exec(id)?;
    let (running, exit_code, pid) = match exec.phase {
        ExecPhase::Prepared => (false, None, None),
        ExecPhase::Running(pid) => (true, None, pid),
        ExecPhase::Ended(code) => (false, Some(i64::from(code)), None),
    };
    let process = &exec.request.process;
    let attach = &exec.request.attach;
    answer::json(&api::ExecInspect {
        id: exec.id.clone(),
        running,
        exit_code,
        process_config: api::ExecProcess {
            tty: process.tty,
            entrypoint: process.args.first().cloned().unwrap_or_default(),
            arguments: process.args.iter().skip(1).cloned().collect(),
            privileged: exec.request.privileged,
            user: process.user.clone(),
        },
        open_stdin: attach.stdin,
        open_stderr: attach.stderr,
        open_stdout: attach.stdout,
        can_remove: false,
        container_id: exec.container.to_string(),
        detach_keys: exec.request.detach_keys.clone(),
        pid: pid.map_or(0, i64::from),
    })
}
