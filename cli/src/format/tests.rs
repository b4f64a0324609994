//! What templates print, as tables of template and text.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::rc::Rc;

use serde_json::json;

use super::*;

fn data() -> Value {
    Value::from(&json!({
        "Id": "sha256:abc",
        "Name": "/web",
        "Tags": ["a:1", "b:2"],
        "State": {"Pid": 42, "Running": true, "Error": ""},
        "Labels": {"z": "26", "a": "1"},
        "Empty": [],
        "Null": null,
        "Ports": {"80/tcp": [{"HostPort": "8080"}]},
        "Ratio": 0.5,
    }))
}

fn run(template: &str) -> Result<String, TemplateError> {
    let mut out = String::new();
    Template::parse(template)?.run(&data(), MissingKey::NoValue, Functions::Real, &mut out)?;
    Ok(out)
}

#[test]
fn templates_print_what_go_prints() {
    for (template, text) in [
        ("plain", "plain"),
        ("{{.Id}}", "sha256:abc"),
        ("{{.ID}}", "sha256:abc"),
        ("{{.State.Pid}}/{{.State.Running}}", "42/true"),
        ("{{.Tags}}", "[a:1 b:2]"),
        ("{{.Labels}}", "map[a:1 z:26]"),
        ("{{.Null}}", "<no value>"),
        ("{{.Nope}}", "<no value>"),
        ("{{json .Tags}}", r#"["a:1","b:2"]"#),
        ("{{json .State}}", r#"{"Pid":42,"Running":true,"Error":""}"#),
        ("{{json \"<a>&\"}}", "\"<a>&\""),
        ("{{range .Tags}}[{{.}}]{{end}}", "[a:1][b:2]"),
        (
            "{{range $i, $t := .Tags}}{{$i}}={{$t}} {{end}}",
            "0=a:1 1=b:2 ",
        ),
        ("{{range $k, $v := .Labels}}{{$k}}{{$v}}{{end}}", "a1z26"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Tags}}{{.}}{{break}}{{end}}", "a:1"),
        ("{{range .Tags}}{{continue}}{{.}}{{end}}", ""),
        ("{{if .Empty}}a{{else if .Tags}}b{{else}}c{{end}}", "b"),
        ("{{with .State}}{{.Pid}}{{end}}", "42"),
        ("{{with .Null}}x{{else}}y{{end}}", "y"),
        ("{{with $x := .State.Pid}}{{$x}}{{$.Name}}{{end}}", "42/web"),
        ("{{$a := 1}}{{$a = 2}}{{$a}}", "2"),
        ("{{index .Tags 1}}", "b:2"),
        ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
        ("{{index .Labels \"a\"}}", "1"),
        ("{{len .Tags}}", "2"),
        ("{{slice .Name 1}}", "web"),
        ("{{slice .Tags 0 1}}", "[a:1]"),
        ("{{.Name | upper | printf \"%-6s|\"}}", "/WEB  |"),
        (
            "{{printf \"%5d|%05d|%x|%q|%v|%.2f\" 42 42 255 \"a\" true .Ratio}}",
            "   42|00042|ff|\"a\"|true|0.50",
        ),
        ("{{printf \"%d\" \"x\"}}", "%!d(string=x)"),
        ("{{printf \"%s\"}}", "%!s(MISSING)"),
        ("{{printf \"a\" 1}}", "a%!(EXTRA int=1)"),
        ("{{print 1 2 \"a\" \"b\" 3}}", "1 2ab3"),
        ("{{println 1 \"a\"}}", "1 a\n"),
        ("{{join .Tags \", \"}}", "a:1, b:2"),
        ("{{split \"a,b\" \",\"}}", "[a b]"),
        (
            "{{title \"hello world\"}} {{lower \"ABC\"}}",
            "Hello World abc",
        ),
        ("{{truncate .Id 6}}|{{pad .Name 1 2}}|", "sha256| /web  |"),
        (
            "{{and .Tags .Empty}}{{or .Empty \"x\"}}{{not .Empty}}",
            "[]xtrue",
        ),
        (
            "{{eq .State.Pid 1 42}} {{ne 1 2}} {{lt 1 2}} {{ge \"b\" \"a\"}}",
            "true true true true",
        ),
        (
            "{{html \"<a>\"}}{{urlquery \"a b&\"}}{{js \"'\"}}",
            "&lt;a&gt;a+b%26\\'",
        ),
        ("a {{- 1 -}} b", "a1b"),
        ("{{/* nothing */}}x{{- /* y */ -}} z", "xz"),
        (
            "{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .Name}}",
            "</web>",
        ),
        ("{{block \"b\" .Name}}[{{.}}]{{end}}", "[/web]"),
        ("{{`raw \\n`}}{{'a'}}{{0x10}}", "raw \\n9716"),
        ("{{\"q\\\"\\t\"}}", "q\"\t"),
        ("{{.State.Error}}", ""),
        ("{{1.5e3}}", "1500"),
    ] {
        match run(template) {
            Ok(out) => assert_eq!(out, text, "{template}"),
            Err(error) => panic!("{template}: {error}"),
        }
    }
}

#[test]
fn templates_fail_in_gos_words() {
    for (template, text) in [
        ("{{.Id", "template: :1: unclosed action"),
        ("{{}}", "template: :1: missing value for command"),
        (
            "{{nofunc}}",
            "template: :1: function \"nofunc\" not defined",
        ),
        ("{{if .Id}}", "template: :1: unexpected EOF"),
        ("{{end}}", "template: :1: unexpected {{end}}"),
        ("a\n{{$x}}", "template: :2: undefined variable \"$x\""),
        ("{{break}}", "template: :1: {{break}} outside {{range}}"),
        (
            "{{.Id.Foo}}",
            "template: :1:2: executing \"\" at <.Id.Foo>: can't evaluate field Foo in type string",
        ),
        (
            "{{index .Tags 9}}",
            "template: :1:2: executing \"\" at <index .Tags 9>: error calling index: index out of range: 9",
        ),
        (
            "{{len 3}}",
            "template: :1:2: executing \"\" at <len 3>: error calling len: len of type int",
        ),
        (
            "{{upper}}",
            "template: :1:2: executing \"\" at <upper>: wrong number of args for upper: want 1 got 0",
        ),
    ] {
        assert_eq!(run(template).unwrap_err().to_string(), text, "{template}");
    }
}

#[test]
fn inspect_wants_every_key() {
    let mut out = String::new();
    let error = Template::parse("x{{.Foo}}")
        .unwrap()
        .run(&data(), MissingKey::Error, Functions::Real, &mut out)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "template: :1:3: executing \"\" at <.Foo>: map has no entry for key \"Foo\""
    );
    assert_eq!(out, "x", "what was written before an error stays");
}

#[test]
fn a_row_knows_its_fields_and_methods() {
    let row = Value::Row {
        type_name: "*formatter.imageContext",
        fields: Rc::new(vec![
            ("Tag", Value::from("<none>")),
            ("ID", Value::from("abc")),
            (
                "Label",
                Value::Method(Rc::new(|arguments| match arguments {
                    [Value::Str(name)] => Ok(Value::from(format!("<{name}>"))),
                    _ => Err("wrong number of args".to_owned()),
                })),
            ),
        ]),
    };
    let run = |template: &str| {
        let mut out = String::new();
        Template::parse(template)?
            .run(&row, MissingKey::NoValue, Functions::Real, &mut out)
            .map(|()| out)
    };
    assert_eq!(run("{{.Label \"k\"}}").unwrap(), "<k>");
    assert_eq!(run("{{\"k\" | .Label}}").unwrap(), "<k>");
    assert_eq!(run("{{json .}}").unwrap(), r#"{"ID":"abc","Tag":"<none>"}"#);
    assert_eq!(
        run("{{.Nope}}").unwrap_err().to_string(),
        "template: :1:2: executing \"\" at <.Nope>: \
         can't evaluate field Nope in type *formatter.imageContext"
    );
    assert_eq!(
        run("{{.Tag 1}}").unwrap_err().to_string(),
        "template: :1:2: executing \"\" at <.Tag>: wrong number of args for Tag: want 0 got 1"
    );
}

#[test]
fn headings_pass_through_dockers_functions() {
    let headings = Value::from(&json!({"Tag": "TAG"}));
    let mut out = String::new();
    Template::parse("{{.Tag | lower}}|{{pad .Tag 1 1}}|{{.Nope}}")
        .unwrap()
        .run(&headings, MissingKey::NoValue, Functions::Heading, &mut out)
        .unwrap();
    assert_eq!(out, "TAG| TAG |<no value>");
}

#[test]
fn a_hostile_template_ends() {
    assert!(run("{{(1").is_err());
    let parens = format!("{{{{{}1{}}}}}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(run(&parens).is_err());
    assert!(run(&"{{if 1}}".repeat(10_000)).is_err());
    assert!(run("{{define \"t\"}}{{template \"t\"}}{{end}}{{template \"t\"}}").is_err());
    assert!(run("{{range 9000000000000000000}}{{end}}").is_err());
    assert!(run("{{printf \"%999999999999d\" 1}}").is_ok_and(|out| out.len() < 10_000));
}

proptest::proptest! {
    #[test]
    fn no_template_panics(template in "[{}().|$=:,\"'`a-z0-9 \\n-]{0,40}") {
        let source = format!("{{{{{template}");
        drop(run(&source));
        drop(run(&template));
    }
}
