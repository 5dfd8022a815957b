//! Secrets whose values can be told from everything else: set as people set them, then looked for in everything that is shown, kept or
//! passed on, in every encoding.
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    places,
    processes::Seen,
    target::{Ended, Target, text},
};

/// Everything that each encoding writes in its own way; a bearer token holds no other characters.
const ODD: &str = "c4n4ry+/=\"\\'%&<>~";

/// The secrets, by what they are, and where files of this test are.
pub struct Canaries {
    values: BTreeMap<String, String>,
    folder: tempfile::TempDir,
    events: String,
}

/// Whether a line is of the log and not of the command itself.
pub fn is_logged(line: &str) -> bool {
    [" TRACE ", " DEBUG ", " INFO ", " WARN "].iter().any(|level| line.contains(level))
}

impl Canaries {
    /// Sets every secret that people set, and one that nothing reads, with lines and letters that no header can hold.
    pub fn set(target: &Target) -> Self {
        let kafka = target.sandbox(&["kafka-credentials"]);
        assert!(kafka.status.success(), "{}", text(&kafka));
        let api: Value = serde_json::from_slice(&kafka.stdout).unwrap();
        let token = format!("{ODD}{}", uuid::Uuid::new_v4().simple());
        let tokens = format!("smoke:{}\n", hex::encode(Sha256::digest(&token)));
        let other = format!("{ODD}ü€\t{}\nsecond {ODD} line", uuid::Uuid::new_v4().simple());
        let set: [(&str, &[u8]); 4] = [
            ("kafka", &kafka.stdout),
            ("smoke-token", token.as_bytes()),
            ("uploader-tokens", tokens.as_bytes()),
            ("other", other.as_bytes()),
        ];
        for (name, value) in set {
            let ended = target.deployctl_loud(&["secret", "set", name], Some(value)).expect(0);
            assert!(ended.err.lines().any(is_logged), "nothing was logged: {}", ended.err);
        }
        let folder = tempfile::tempdir().unwrap();
        let events = folder.path().join("events.ndjson").to_str().unwrap().to_owned();
        let key = target.variable("AWS_SECRET_ACCESS_KEY").to_owned();
        let kafka = api["api_secret"].as_str().unwrap().to_owned();
        let values = [("kafka", kafka), ("token", token), ("other", other), ("the person's key", key)];
        Self { values: values.map(|(name, value)| (name.to_owned(), value)).into(), folder, events }
    }

    /// The smoke test's token.
    pub fn token(&self) -> &str {
        &self.values["token"]
    }

    /// Where a stream of events may go.
    pub fn events(&self) -> &str {
        &self.events
    }

    /// After every command at its most talkative and a crash: in no output, file, object, layer, argument or variable.
    pub fn are_found_nowhere(mut self, target: &Target, watched: &[Seen]) {
        let master = target.sandbox(&["exec", "psql", "-c", "\\! printenv PGPASSWORD"]);
        self.values.insert("the database's password".to_owned(), String::from_utf8(master.stdout).unwrap().trim().to_owned());
        self.are_not_with(watched);
        self.a_crash(target);
        self.values.extend(watched.iter().flat_map(of_terraform));
        assert!(self.values.values().all(|value| value.len() >= 12), "a value is no canary");
        let mut searched = places::all(target);
        places::files(self.folder.path(), &mut searched);
        for (number, said) in target.said().into_iter().enumerate() {
            searched.insert(format!("output {number}: {}", said.lines().next().unwrap_or_default()), said.into_bytes());
        }
        let needles = Needles::of(self.values.iter());
        finds_what_is_there(&needles, &self.values);
        let bytes: usize = searched.values().map(Vec::len).sum();
        let found: Vec<String> = searched
            .iter()
            .flat_map(|(place, bytes)| needles.found(bytes).into_iter().map(move |name| format!("{name} is in {place}")))
            .collect();
        eprintln!("looked for {} secrets in {} places, {} MiB", self.values.len(), searched.len(), bytes >> 20);
        assert!(found.is_empty(), "{found:#?}");
        files_are_private(target, self.folder.path());
    }

    /// Each one at its most talkative, as a person would type it; what came of it by its words.
    pub fn every_command(&self, target: &Target) -> BTreeMap<String, Ended> {
        let plan = self.plan();
        // Most of what these say comes from planning, which takes ten seconds: once is enough.
        let commands: [(&str, &[&str]); 7] = [
            ("plan", &["plan", "-o", &plan, "--output", "json"]),
            ("status", &["status"]),
            ("history", &["history"]),
            ("render", &["render"]),
            ("doctor", &["doctor"]),
            ("db status", &["db", "status"]),
            ("smoke", &["smoke"]),
        ];
        commands.map(|(name, command)| (name.to_owned(), target.deployctl_loud(command, None).expect(0))).into()
    }

    /// Where one of them saves its plan.
    pub fn plan(&self) -> String {
        self.folder.path().join("plan.json").to_str().unwrap().to_owned()
    }

    /// Killed once a step is under way; the next apply goes on.
    fn a_crash(&self, target: &Target) {
        let said = self.folder.path().join("crash.txt");
        let runs = target.state().join("deployctl/runs/sandbox");
        let journals = || std::fs::read_dir(&runs).unwrap().map(|run| run.unwrap().path().join("journal.ndjson"));
        let before: BTreeSet<_> = journals().collect();
        let mut child = target.deployctl_started(&["apply", "--yes"], &said);
        let end = Instant::now() + Duration::from_secs(120);
        let is_started = || {
            let fresh = journals().filter(|journal| !before.contains(journal));
            fresh.filter_map(|journal| std::fs::read_to_string(journal).ok()).any(|text| text.contains("\"event\":\"started\""))
        };
        while !is_started() {
            assert!(Instant::now() < end, "no step was started: {}", std::fs::read_to_string(&said).unwrap());
            std::thread::sleep(Duration::from_millis(20));
        }
        kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::KILL).unwrap();
        child.wait().unwrap();
        target.deployctl_loud(&["apply", "--yes"], None).expect(0);
    }

    /// No argument holds one; the person's key is with deployctl alone, the role's with terraform and its watchdog.
    fn are_not_with(&self, watched: &[Seen]) {
        let programs: BTreeSet<&str> = watched.iter().map(|seen| seen.program.as_str()).collect();
        assert!(["deployctl", "terraform", "cargo"].iter().all(|program| programs.contains(program)), "seen: {programs:?}");
        let needles = Needles::of(self.values.iter());
        for seen in watched {
            assert!(needles.found(&seen.arguments).is_empty(), "{:?} in the arguments of {}", needles.found(&seen.arguments), seen.program);
            let mut held = needles.found(&seen.environment);
            if seen.program == "deployctl" {
                held.remove("the person's key");
            }
            assert!(held.is_empty(), "{held:?} in the environment of {}", seen.program);
        }
        let roles: BTreeMap<String, String> = watched.iter().flat_map(of_terraform).collect();
        assert!(!roles.is_empty(), "terraform was given credentials");
        let needles = Needles::of(roles.iter());
        for seen in watched.iter().filter(|seen| seen.program != "deployctl" && !becomes_terraform(seen)) {
            let arguments = String::from_utf8_lossy(&seen.arguments);
            assert!(needles.found(&seen.environment).is_empty(), "the role's credentials are with {} ({arguments})", seen.program);
        }
    }
}

/// terraform, what it starts, and the shell that its watchdog holds back until it is on record: that one becomes terraform.
fn becomes_terraform(seen: &Seen) -> bool {
    seen.program.starts_with("terraform") || String::from_utf8_lossy(&seen.arguments).contains("read -r go && exec")
}

/// The credentials that a terraform was given.
fn of_terraform(seen: &Seen) -> Vec<(String, String)> {
    let names = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
    let given = names.into_iter().filter(|_| seen.program.starts_with("terraform")).filter_map(|name| Some((name, seen.variable(name)?)));
    given.map(|(name, value)| (format!("terraform's {name} {}…", value.get(..6).unwrap_or_default()), value)).collect()
}

/// What a plan is kept in is readable by its owner only, and so is the folder of all of them.
fn files_are_private(target: &Target, folder: &Path) {
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.join("plan.json")), 0o600);
    let state = target.state().join("deployctl");
    assert_eq!(mode(&state), 0o700);
    let mut folders = vec![state];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && path.read_link().is_err() {
                folders.push(path);
            } else if name.contains("plan") || name == "journal.ndjson" {
                assert_eq!(mode(&path), 0o600, "{}", path.display());
            }
        }
    }
}

/// Every form that a value may come out in.
fn forms(value: &str) -> BTreeSet<String> {
    let json = |text: &str| {
        let quoted = Value::String(text.to_owned()).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    let percent = |plain: &str| -> String {
        let keep = |byte: u8| byte.is_ascii_alphanumeric() || plain.as_bytes().contains(&byte);
        value.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
    };
    let ascii = |text: &str| -> String {
        let escaped = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\u{:04x}", u32::from(c)) };
        text.chars().map(escaped).collect()
    };
    let once = json(value);
    let mut all: BTreeSet<String> = [value, &once, &json(&once), &ascii(&once)].map(str::to_owned).into();
    all.extend([value.escape_ascii_text(), once.escape_ascii_text(), percent("-._~"), percent("-._*").replace("%20", "+")]);
    all.extend([value, &once].into_iter().flat_map(|text| [hex::encode(text), hex::encode_upper(text)]));
    for text in [value, &once] {
        for start in 0..3 {
            // What is the same whatever stands before and behind: whole groups of three bytes.
            let middle = &text.as_bytes()[start..];
            let middle = &middle[..middle.len() / 3 * 3];
            all.extend([BASE64_STANDARD.encode(middle), BASE64_URL_SAFE_NO_PAD.encode(middle)]);
        }
    }
    all
}

/// As Rust prints bytes.
trait EscapeAsciiText {
    fn escape_ascii_text(&self) -> String;
}

impl EscapeAsciiText for str {
    fn escape_ascii_text(&self) -> String {
        self.as_bytes().escape_ascii().to_string()
    }
}

/// All forms of all values, looked for in one pass.
struct Needles {
    starts: Vec<bool>,
    all: Vec<(String, Vec<u8>)>,
}

fn start_of(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) | usize::from(bytes[1]) << 8 | usize::from(bytes[2]) << 16
}

impl Needles {
    fn of<'a>(values: impl Iterator<Item = (&'a String, &'a String)>) -> Self {
        let mut needles = Self { starts: vec![false; 1 << 24], all: Vec::new() };
        for (name, value) in values {
            // A secret of several lines may be printed line by line.
            for part in value.lines().filter(|line| line.len() >= 12).chain([value.as_str()]) {
                needles.all.extend(forms(part).into_iter().map(|form| (name.clone(), form.into_bytes())));
            }
        }
        for (_, needle) in &needles.all {
            needles.starts[start_of(needle)] = true;
        }
        needles
    }

    /// The names of those that are in there.
    fn found(&self, bytes: &[u8]) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        for at in 0..bytes.len().saturating_sub(2) {
            if self.starts[start_of(&bytes[at..])] {
                found.extend(self.all.iter().filter(|(_, needle)| bytes[at..].starts_with(needle)).map(|(name, _)| name.as_str()));
            }
        }
        found
    }
}

/// A search that finds nothing proves something only if it can find.
fn finds_what_is_there(needles: &Needles, values: &BTreeMap<String, String>) {
    for (name, value) in values {
        let body = serde_json::json!({ "SecretString": value }).to_string();
        let texts = [
            value.clone(),
            format!("{body:?}"),
            format!("b\"{}\"", body.as_bytes().escape_ascii()),
            BASE64_STANDARD.encode(format!("user:{value}!")),
            BASE64_URL_SAFE_NO_PAD.encode(&body),
            hex::encode(&body),
            url::form_urlencoded::Serializer::new(String::new()).append_pair("p", value).finish(),
        ];
        for text in texts {
            assert!(needles.found(text.as_bytes()).contains(name.as_str()), "{name} is not found in {text}");
        }
    }
}

#[test]
fn a_search_can_find() {
    let odd = format!("{ODD}ü€\t0123456789\nsecond {ODD} line");
    let values = BTreeMap::from([("odd".to_owned(), odd), ("key".to_owned(), "wJalrXUtnFEMI/K7MDENG+bPxRfiCY".to_owned())]);
    let needles = Needles::of(values.iter());
    finds_what_is_there(&needles, &values);
    assert!(needles.found(&[&b"c4n4ry is no secret, "[..], &[0; 64]].concat()).is_empty());
    assert_eq!(needles.found(b"x c4n4ry+/=\"\\'%&<>~\xc3\xbc\xe2\x82\xac\t0123456789 y"), BTreeSet::from(["odd"]), "one line of several");
}
