//! Which program a command names, by docker's rules and in docker's words when there is none.
//! Never runs anything; looks through `RootFs`, from outside the container or (as the shim does, after all mounts) inside.

use std::path::{Path, PathBuf};

use super::rootfs::{Kind, RootFs};
use super::wire::{StartError, StartErrorKind};

/// Where a program may be if the environment does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Any of the three bits that let somebody execute.
const EXECUTE_BITS: u32 = 0o111;

/// Finds the program that `command` names for an environment and a working directory.
pub fn resolve(
    root: &impl RootFs,
    command: &str,
    env: &[String],
    cwd: &Path,
) -> Result<PathBuf, StartError> {
    if command.is_empty() {
        return Err(not_found(command, "no such file or directory"));
    }
    if command.contains('/') {
        // `join` keeps an absolute command as it is.
        let path = cwd.join(command);
        return match look(root, &path) {
            Found::Program => Ok(path),
            Found::Nothing => Err(named(
                command,
                "stat",
                "no such file or directory",
                StartErrorKind::NotFound,
            )),
            Found::Directory => Err(denied(command, "is a directory")),
            Found::NotExecutable => Err(denied(command, "permission denied")),
        };
    }
    let path = env
        .iter()
        .rev()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let mut seen_but_denied = false;
    for dir in path.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        let candidate = cwd.join(dir).join(command);
        match look(root, &candidate) {
            Found::Program => return Ok(candidate),
            Found::NotExecutable => seen_but_denied = true,
            Found::Nothing | Found::Directory => {}
        }
    }
    if seen_but_denied {
        return Err(denied(command, "permission denied"));
    }
    Err(not_found(command, "executable file not found in $PATH"))
}

enum Found {
    Program,
    NotExecutable,
    Directory,
    Nothing,
}

fn look(root: &impl RootFs, path: &Path) -> Found {
    match root.stat(path) {
        Ok(stat) if stat.kind == Kind::Directory => Found::Directory,
        Ok(stat) if stat.kind == Kind::File && stat.mode & EXECUTE_BITS != 0 => Found::Program,
        Ok(_) => Found::NotExecutable,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Found::NotExecutable,
        Err(_) => Found::Nothing,
    }
}

fn not_found(command: &str, why: &str) -> StartError {
    named(command, "", why, StartErrorKind::NotFound)
}

fn denied(command: &str, why: &str) -> StartError {
    named(command, "", why, StartErrorKind::PermissionDenied)
}

/// docker's shape: `exec: "nope": executable file not found in $PATH`, `exec: "/nope": stat /nope: no such file or directory`.
fn named(command: &str, tried: &str, why: &str, kind: StartErrorKind) -> StartError {
    let tried = if tried.is_empty() {
        String::new()
    } else {
        format!("{tried} {command}: ")
    };
    StartError {
        kind,
        message: format!("exec: {command:?}: {tried}{why}"),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::rootfs::Stat;
    use std::io;

    struct Tree;

    impl RootFs for Tree {
        fn read(&self, _: &Path, _: usize) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::NotFound.into())
        }
        fn stat(&self, path: &Path) -> io::Result<Stat> {
            let plain: PathBuf = path.components().collect();
            let (kind, mode) = match plain.to_str().unwrap() {
                "/usr/bin/env" | "/opt/own" | "/work/run.sh" | "/work/tool" => (Kind::File, 0o755),
                "/bin/env" => (Kind::File, 0o755),
                "/usr/bin/text" | "/work/text" => (Kind::File, 0o644),
                "/usr/bin/dir" | "/work" | "/" => (Kind::Directory, 0o755),
                "/secret/x" => return Err(io::ErrorKind::PermissionDenied.into()),
                _ => return Err(io::ErrorKind::NotFound.into()),
            };
            Ok(Stat { kind, mode })
        }
    }

    fn find(command: &str, env: &[&str]) -> Result<PathBuf, StartError> {
        let env: Vec<String> = env.iter().map(ToString::to_string).collect();
        resolve(&Tree, command, &env, Path::new("/work"))
    }

    #[test]
    fn the_path_is_searched_in_order() {
        assert_eq!(find("env", &[]).unwrap(), Path::new("/usr/bin/env"));
        assert_eq!(
            find("env", &["PATH=/usr/bin", "PATH=/bin"]).unwrap(),
            Path::new("/bin/env"),
            "the last one counts"
        );
        assert_eq!(
            find("own", &["PATH=/none:/opt"]).unwrap(),
            Path::new("/opt/own")
        );
        assert_eq!(
            find("tool", &["PATH=:/bin"]).unwrap(),
            Path::new("/work/tool"),
            "an empty part is the working directory"
        );
    }

    #[test]
    fn a_command_with_a_slash_is_a_path() {
        assert_eq!(
            find("./run.sh", &[]).unwrap(),
            Path::new("/work/./run.sh")
                .components()
                .collect::<PathBuf>()
        );
        assert_eq!(find("/opt/own", &["PATH="]).unwrap(), Path::new("/opt/own"));
    }

    #[test]
    fn what_cannot_run_is_said_in_dockers_words() {
        use StartErrorKind::{NotFound, PermissionDenied};
        for (command, kind, text) in [
            (
                "nope",
                NotFound,
                r#"exec: "nope": executable file not found in $PATH"#,
            ),
            (
                "/nope",
                NotFound,
                r#"exec: "/nope": stat /nope: no such file or directory"#,
            ),
            ("", NotFound, r#"exec: "": no such file or directory"#),
            (
                "text",
                PermissionDenied,
                r#"exec: "text": permission denied"#,
            ),
            (
                "/usr/bin/text",
                PermissionDenied,
                r#"exec: "/usr/bin/text": permission denied"#,
            ),
            (
                "/work",
                PermissionDenied,
                r#"exec: "/work": is a directory"#,
            ),
            (
                "/secret/x",
                PermissionDenied,
                r#"exec: "/secret/x": permission denied"#,
            ),
            (
                "dir",
                NotFound,
                r#"exec: "dir": executable file not found in $PATH"#,
            ),
        ] {
            let error = find(command, &[]).unwrap_err();
            assert_eq!((error.kind, error.message.as_str()), (kind, text));
        }
    }
}
