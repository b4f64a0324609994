#!/usr/bin/env python3
"""Breaks the filesystem's core on purpose, one line at a time, and shows that the test of that rule notices.

In a copy of the sources each mutant's text is replaced by one that asks at run time whether this mutant is wanted, so that
all of them are compiled once. First every named test must pass with no mutant; then, for each mutant, its test must fail.
A table of the results is printed; the exit code is 1 if a mutant lives. As root, with /dev/fuse, for the tests on mounts.

    tests/judges/mutants.py [NAME ...]
"""

import os
import pathlib
import re
import subprocess
import sys

REPO = pathlib.Path(__file__).resolve().parents[2]
COPY = REPO / "target/mutants"
LIMIT_SECONDS = 300

# Row of the table; name; file below fs/src; what stands there (once); what stands there in the copy, where @ asks
# whether the mutant is wanted; test binary; test.
MUTANTS = [
    ("1, 5", "whiteouts-are-listed", "union/readdir.rs", "Some(Override::Whiteout) => continue,",
     "Some(Override::Whiteout) if !@ => continue, Some(Override::Whiteout) => (entry.ino, entry.kind),",
     "mount", "rows::names::row_05_a_listing_has_each_name_once_with_the_number_and_kind_of_stat"),
    ("2", "device-0-0-refused", "union/create.rs", "    let rdev = match kind {",
     "    if @ && kind == Kind::Char && rdev == 0 { return Err(Errno::Perm); }\n    let rdev = match kind {",
     "mount", "rows::names::row_02_a_device_0_0_is_a_device_and_hides_nothing"),
    ("3", "removed-directory-keeps-whiteouts", "union/draft.rs",
     "                self.ops.push(UpperOp::DropEntry(ino, name.clone()));",
     "                if @ { continue; } self.ops.push(UpperOp::DropEntry(ino, name.clone()));",
     "rules", "a_directory_of_whiteouts_is_empty_and_its_whiteouts_go_with_it"),
    ("5", "listed-number-is-the-base-s", "union/readdir.rs",
     "Some(Override::Entry { ino, kind, .. }) => (*ino, *kind),",
     "Some(Override::Entry { ino, kind, .. }) => (if @ { entry.ino } else { *ino }, *kind),",
     "mount", "rows::names::row_05_a_listing_has_each_name_once_with_the_number_and_kind_of_stat"),
    ("6", "whiteouts-count-as-entries", "union/lookup.rs", ".all(|entry| upper.contains_key(&entry.name))",
     ".all(|entry| !@ && upper.contains_key(&entry.name))",
     "rules", "a_directory_of_whiteouts_is_empty_and_its_whiteouts_go_with_it"),
    ("7", "whiteout-over-nothing", "union/draft.rs", "let op = if base.is_some_and(",
     "let op = if @ || base.is_some_and(",
     "rules", "a_name_of_the_upper_alone_goes_without_a_whiteout"),
    ("10, 31", "lower-passthrough", "vfs/files.rs", "        inode.content == Content::Data\n            && !self.undos",
     "        (inode.content == Content::Data || @ && matches!(inode.content, Content::Blob(_)))\n            && !self.undos",
     "mount", "lower::lower_files_cannot_be_changed_by_any_kind_of_write"),
    ("11", "wh-names-are-reserved", "vfs/names.rs", "    FileName::new(name).map_err(",
     "    if @ && name.starts_with(b\".wh.\") { return Err(Errno::INVAL); }\n    FileName::new(name).map_err(",
     "mount", "rows::names::row_11_names_are_bytes_255_of_them_and_none_is_reserved"),
    ("12", "short-links-only", "union/create.rs", "if target.len() > TARGET_BYTES_MAX {",
     "if target.len() > if @ { 4000 } else { TARGET_BYTES_MAX } {",
     "mount", "rows::names::row_12_trees_are_5000_deep_and_links_4095_long"),
    ("13", "pages-unsorted", "union/readdir.rs", "        head.sort_unstable_by_key(|item| item.cookie);",
     "        if !@ { head.sort_unstable_by_key(|item| item.cookie); }",
     "rules", "a_reader_that_takes_a_page_gets_the_lowest_sequences_first"),
    ("14, 17, 18", "a-link-is-not-counted", "union/link.rs", "    inode.links.push(link_at(to));",
     "    if !@ { inode.links.push(link_at(to)); }",
     "mount", "rows::names::row_14_15_17_numbers_devices_and_links_stay_through_every_change"),
    ("19", "directories-have-one-link", "union/getattr.rs", "=> subdirs.saturating_add(2),",
     "=> if @ { 1 } else { subdirs.saturating_add(2) },",
     "mount", "rows::names::row_19_a_directory_has_a_link_for_each_directory_in_it"),
    ("21", "birth-moves", "union/setattr.rs", "    inode.ctime = ctx.now;\n    let changed",
     "    if @ { inode.btime = ctx.now; }\n    inode.ctime = ctx.now;\n    let changed",
     "mount", "transport::a_new_file_shows_when_it_was_born"),
    ("22", "directories-are-not-renamed", "union/rename.rs", "    let source = existing(layers, from)?;",
     "    let source = existing(layers, from)?;\n    if @ && source.kind == Kind::Dir { return Err(Errno::XDev); }",
     "mount", "lists::all_of_a_rename_works_on_directories_of_the_image"),
    ("23", "noreplace-replaces", "union/rename.rs",
     "(How::NoReplace | How::NoReplaceWhiteout(_), Some(_)) => return",
     "(How::NoReplace | How::NoReplaceWhiteout(_), Some(_)) if !@ => return",
     "union", "rules_equal_the_model"),
    ("24, 25", "exchange-is-half-done", "union/rename.rs", "    draft.set_entry(from, target)?;",
     "    if !@ { draft.set_entry(from, target)?; }",
     "mount", "lists::all_of_a_rename_works_on_directories_of_the_image"),
    ("26", "no-whiteout-is-left", "union/rename.rs",
     "            create::whiteout_node(&mut draft, from, node)?;",
     "            if @ { draft.remove_entry(from)?; } else { create::whiteout_node(&mut draft, from, node)?; }",
     "mount", "lists::all_of_a_rename_works_on_directories_of_the_image"),
    ("27", "full-directories-are-replaced", "union/rename.rs", "&& !lookup::is_empty(layers, target.ino)?",
     "&& !@ && !lookup::is_empty(layers, target.ino)?",
     "mount", "rows::names::row_27_renames_replace_what_is_open_and_refuse_what_linux_refuses"),
    ("61", "a-rename-is-listed-last", "union/rename.rs", "            draft.move_entry(from, to, source)?;",
     "            if @ { draft.set_entry(to, source)?; } else { draft.move_entry(from, to, source)?; }",
     "mount", "writable::a_listing_ends_though_each_entry_is_renamed_while_it_is_read"),
    ("34", "orphans-end-while-open", "vfs/held.rs",
     "            && !self.opens.contains_key(&ino)\n            && !self.lookups.contains_key(&ino)",
     "            && (@ || !self.opens.contains_key(&ino) && !self.lookups.contains_key(&ino))",
     "mount", "writable::an_unlinked_open_file_goes_on_and_is_gone_after_the_last_close"),
    ("35", "named-stays-an-orphan", "union/link.rs", "    draft.adopt(ino);", "    if !@ { draft.adopt(ino); }",
     "mount", "unnamed::files_without_a_name_live_as_on_the_host"),
    ("37", "truncation-copies", "union/content.rs", "Content::Blob(_) | Content::Sparse { .. } if new == 0 => {",
     "Content::Blob(_) | Content::Sparse { .. } if new == 0 && !@ => {",
     "content", "truncation_copies_nothing_of_a_large_file_and_nothing_at_all_to_zero"),
    ("38", "copy-up-copies-all", "union/content.rs", "    if stored <= WHOLE_COPY_BYTES_MAX ||",
     "    if @ || stored <= WHOLE_COPY_BYTES_MAX ||",
     "content", "one_byte_into_a_large_file_moves_one_chunk"),
    ("39", "no-hole-is-found", "data/seek.rs", "(Source::Zeros, Whence::Hole) => Ok(Some(range.start)),",
     "(Source::Zeros, Whence::Hole) => Ok(Some(range.start).filter(|_| !@)),",
     "mount", "writable::sparse_files_stay_sparse_and_show_their_holes"),
    ("40", "nothing-is-punched", "union/fallocate.rs", "        if !zeroed.is_empty() {",
     "        if !zeroed.is_empty() && !@ {",
     "mount", "rows::data::row_40_holes_and_room_are_made_as_on_the_host_and_ranges_are_not_moved"),
    ("41", "copies-are-shifted", "vfs/files.rs", "let at = from_offset.saturating_add(done as u64);",
     "let at = from_offset.saturating_add(done as u64).saturating_add(u64::from(@));",
     "mount", "rows::data::row_41_ranges_are_copied_between_all_kinds_of_files"),
    ("43", "files-end-at-4-gib", "vfs/files.rs", "Some(end) if end <= OFFSET_MAX =>",
     "Some(end) if end <= if @ { 1 << 32 } else { OFFSET_MAX } =>",
     "mount", "rows::data::row_43_offsets_beyond_31_32_and_44_bits_are_what_they_are"),
    ("45", "nothing-is-kept-for-a-loss-of-power", "union/content.rs", "    is_stored && after.has_data_file() && before != after",
     "    !@ && is_stored && after.has_data_file() && before != after",
     "mount", "unsynced::a_chunk_that_is_overwritten_whole_is_kept_until_it_is_synced"),
    ("45", "cuts-are-not-synced", "vfs/attrs.rs", "        let synced = if cuts_base {", "        let synced = if cuts_base && !@ {",
     "mount", "unsynced::a_cut_of_a_partly_copied_file_is_on_disk_before_it_is_answered"),
    ("45", "the-kernel-writes-what-is-taken-back", "vfs/files.rs", "            && !self.undos.has(ino)",
     "            && (@ || !self.undos.has(ino))",
     "mount", "unsynced::a_file_that_can_be_taken_back_is_not_given_to_the_kernel"),
    ("45", "synchronous-openings-sync-nothing", "fuse/ops.rs", "        if convert::is_synchronous(flags) {",
     "        if convert::is_synchronous(flags) && !@ {",
     "mount", "unsynced::a_file_that_is_opened_for_synchronous_writes_has_no_undo_record"),
    ("47", "truncations-need-room", "vfs/attrs.rs", "            Growth::Frees\n", "            if @ { Growth::AsItSays } else { Growth::Frees }\n",
     "mount", "unsynced::a_file_is_shortened_and_emptied_on_a_full_disk"),
    ("40, 47", "reservations-have-credit-elsewhere", "data/seek.rs", "let (mut at, mut stored) = (range.start, 0_u64);",
     "let (mut at, mut stored) = (if @ { 0 } else { range.start }, 0_u64);",
     "mount", "unsynced::a_large_file_has_no_credit_for_room_elsewhere"),
    ("50", "no-time-before-1970", "union/setattr.rs", "            Self::At(time) => time,",
     "            Self::At(time) if @ => Time { seconds: time.seconds.max(0), ..time },\n            Self::At(time) => time,",
     "mount", "rows::names::row_50_times_are_kept_to_the_nanosecond_and_move_when_they_must"),
    ("50", "parents-keep-their-times", "union/draft.rs", "            inode.mtime = now;\n            inode.ctime = now;",
     "            if !@ { inode.mtime = now; }\n            inode.ctime = now;",
     "mount", "rows::names::row_50_times_are_kept_to_the_nanosecond_and_move_when_they_must"),
    ("51", "setuid-survives-a-write", "union/setattr.rs", "        inode.mode &= !SET_USER_ID;",
     "        if !@ { inode.mode &= !SET_USER_ID; }",
     "mount", "writable::privileges_go_when_somebody_else_writes"),
    ("51", "strangers-keep-setgid", "union/setattr.rs", "        if is_program || group != inode.gid {",
     "        if is_program || !@ && group != inode.gid {",
     "rules", "setgid_of_a_file_that_no_group_may_execute_goes_when_a_stranger_writes_and_stays_when_a_member_does"),
    ("52", "privileges-survive-a-chown", "union/setattr.rs", "        if inode.kind != Kind::Dir {",
     "        if inode.kind != Kind::Dir && !@ {",
     "rules", "chown_takes_privileges_from_files_whoever_asks_but_not_from_directories"),
    ("52", "groups-are-not-inherited", "union/create.rs", "        gid = parent.gid;",
     "        if !@ { gid = parent.gid; }",
     "rules", "a_file_made_without_a_name_is_an_orphan_until_it_gets_one"),
    ("53", "default-acls-mask-nothing", "union/create.rs", "    let mode = access.inherit(mode);",
     "    let mode = if @ { mode } else { access.inherit(mode) };",
     "mount", "writable::a_default_acl_is_inherited_and_chmod_follows"),
    ("53, 57", "members-count-as-strangers", "union/xattr.rs", "    if how == How::ByStranger {",
     "    if @ || how == How::ByStranger {",
     "mount", "transport::an_acl_set_by_a_member_keeps_setgid_and_one_set_by_a_stranger_takes_it"),
    ("54", "create-replaces", "union/xattr.rs", "How::Create if inode.xattrs.contains_key(name)",
     "How::Create if !@ && inode.xattrs.contains_key(name)",
     "mount", "rows::special::row_54_attributes_are_kept_through_copy_up_and_refused_where_linux_refuses"),
    ("55", "devices-have-no-number", "union/create.rs", "Kind::Char | Kind::Block => rdev,",
     "Kind::Char | Kind::Block => if @ { 0 } else { rdev },",
     "mount", "rows::special::row_55_devices_pipes_and_sockets_work"),
    ("56", "owners-of-16-bits", "union/setattr.rs", "change.uid.unwrap_or(inode.uid);",
     "change.uid.map(|uid| if @ { uid & 0xffff } else { uid }).unwrap_or(inode.uid);",
     "mount", "rows::special::row_56_owners_have_32_bits"),
    ("60", "another-block-size", "vfs/attrs.rs", "fragment_bytes: host.f_frsize,",
     "fragment_bytes: if @ { 512 } else { host.f_frsize },",
     "mount", "writable::statfs_tells_the_truth_of_the_host"),
    ("61", "a-page-loses-an-entry", "union/readdir.rs", "let first = after.saturating_sub(COOKIE_DOTDOT);",
     "let first = after.saturating_sub(COOKIE_DOTDOT).saturating_add(u64::from(@ && after > COOKIE_BASE));",
     "mount", "rows::names::row_61_a_listing_holds_while_entries_come_and_go"),
]

ASK = '''
/// Whether a mutant is wanted.
pub(crate) fn mutant(name: &str) -> bool {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("NACRE_MUTANT").ok());
    wanted.as_deref() == Some(name)
}
'''


def run(command, **more):
    return subprocess.run(command, cwd=COPY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)


def copy_sources(mutants):
    COPY.mkdir(parents=True, exist_ok=True)
    files = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, stdout=subprocess.PIPE, check=True).stdout
    texts = {}
    for name in files.decode().rstrip("\0").split("\0"):
        if (REPO / name).is_file():
            texts[name] = (REPO / name).read_bytes()
    for _, name, file, was, becomes, _, _ in mutants:
        path = f"fs/src/{file}"
        text = texts[path].decode()
        if text.count(was) != 1:
            sys.exit(f"{name}: {path} has {text.count(was)} times: {was}")
        texts[path] = text.replace(was, becomes.replace("@", f'crate::mutant("{name}")')).encode()
    texts["fs/src/lib.rs"] += ASK.encode()
    for name, text in texts.items():
        to = COPY / name
        # What is as it was keeps its time, so that cargo compiles only what changed.
        if not to.exists() or to.read_bytes() != text:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(text)


def build(binaries):
    # The whole workspace: a part of it asks for other features of RocksDB, which would be compiled anew.
    command = ["cargo", "test", "--release", "--locked", "--no-run", "--workspace"]
    for name in sorted(binaries):
        command += ["--test", name]
    environment = dict(os.environ)
    environment.setdefault("CARGO_TARGET_DIR", str(REPO / "target"))
    done = run(command, env=environment)
    if done.returncode:
        sys.exit(done.stdout)
    found = dict(re.findall(r"Executable tests/(\w+)(?:/main)?\.rs \((.*)\)", done.stdout))
    return {name: COPY / path for name, path in found.items()}


def passes(binary, test, mutant):
    environment = dict(os.environ, NACRE_MUTANT=mutant, PROPTEST_MAX_SHRINK_ITERS="0")
    try:
        done = run([binary, "--exact", test], env=environment, timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    if " 1 passed" in done.stdout and "skipped: " not in done.stdout:
        return True
    if " 0 failed" in done.stdout:
        sys.exit(f"{test} did not run:\n{done.stdout}")
    return False


def main():
    mutants = [mutant for mutant in MUTANTS if not sys.argv[1:] or mutant[1] in sys.argv[1:]]
    copy_sources(mutants)
    binaries = build({mutant[5] for mutant in mutants})
    for _, name, _, _, _, binary, test in mutants:
        if not passes(binaries[binary], test, ""):
            sys.exit(f"{test} fails without a mutant")
    alive = 0
    print("| row | mutant | test that fails |\n|---|---|---|")
    for row, name, _, _, _, binary, test in mutants:
        lives = passes(binaries[binary], test, name)
        alive += lives
        print(f"| {row} | {name} | {'**lives**: ' if lives else ''}`{test}` |", flush=True)
    print(f"\n{len(mutants)} mutants, {alive} alive")
    sys.exit(1 if alive else 0)


main()
