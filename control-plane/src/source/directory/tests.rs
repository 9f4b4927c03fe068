use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;

/// A directory and a clock of its own.
struct Scene {
    dir: tempfile::TempDir,
    directory: Directory,
    now: Instant,
    problems: Vec<String>,
}

impl Scene {
    fn new(files: &[(&str, String)]) -> (Self, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path());
        let mut scene = Self { dir, directory, now: Instant::now(), problems: Vec::new() };
        files.iter().for_each(|(name, text)| scene.write(name, text));
        let events = scene.scan();
        (scene, events)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.dir.path().join(name)).unwrap();
    }

    fn touch(&mut self, name: &str, touch: Touch) {
        self.directory.touched(Path::new(name), touch, self.now);
    }

    fn scan(&mut self) -> Vec<String> {
        let Some(batch) = self.directory.scan(self.now).batch else { return Vec::new() };
        self.problems = batch.problems.iter().map(ToString::to_string).collect();
        batch.events.iter().map(show).collect()
    }

    /// Looks again after this time.
    fn after(&mut self, millis: u64) -> Vec<String> {
        self.now += Duration::from_millis(millis);
        self.scan()
    }
}

fn show(event: &Event) -> String {
    match event {
        Event::Upsert(entry) => format!("+{}", entry.key),
        Event::Delete(key) => format!("-{key}"),
        Event::Synced => "synced".into(),
    }
}

fn service(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{ports: [{{port: {port}}}]}}\n"
    )
}

const NOTHING: [String; 0] = [];

#[test]
fn the_first_look_tells_all_and_then_synced() {
    let (mut scene, events) =
        Scene::new(&[("b.yaml", service("b", 80)), ("a.yaml", service("a", 80))]);
    assert_eq!(events, ["+Service default/a", "+Service default/b", "synced"]);
    assert_eq!(scene.after(1000), NOTHING);
}

#[test]
fn a_closed_file_is_read_soon_and_an_open_one_is_waited_for() {
    let (mut scene, _) = Scene::new(&[("a.yaml", service("a", 80))]);
    scene.write("a.yaml", &service("a", 81));
    scene.touch("a.yaml", Touch::Written);
    assert_eq!(scene.after(200), NOTHING, "its writer may not be done");
    scene.touch("a.yaml", Touch::Closed);
    assert_eq!(scene.after(39), NOTHING);
    assert_eq!(scene.after(2), ["+Service default/a"]);
}

#[test]
fn without_being_told_a_change_is_read_after_a_silence() {
    let (mut scene, _) = Scene::new(&[("a.yaml", service("a", 80))]);
    scene.write("a.yaml", &service("a", 8080));
    assert_eq!(scene.scan(), NOTHING);
    scene.write("a.yaml", &service("a", 18080));
    assert_eq!(scene.after(200), NOTHING);
    assert_eq!(scene.after(200), NOTHING, "another change began the wait anew");
    assert_eq!(scene.after(200), ["+Service default/a"]);
}

#[test]
fn a_file_that_loses_objects_is_given_longer() {
    let both = service("a", 80) + &service("b", 80);
    let (mut scene, _) = Scene::new(&[("a.yaml", both.clone())]);
    scene.write("a.yaml", "");
    scene.touch("a.yaml", Touch::Closed);
    assert_eq!(scene.after(100), NOTHING, "empty is how a file looks that is being rewritten");
    scene.write("a.yaml", &both.replace("80", "90"));
    scene.touch("a.yaml", Touch::Closed);
    assert_eq!(scene.after(50), ["+Service default/a", "+Service default/b"]);
    scene.write("a.yaml", &service("a", 90));
    scene.touch("a.yaml", Touch::Closed);
    assert_eq!(scene.after(100), NOTHING);
    assert_eq!(scene.after(500), ["-Service default/b"]);
}

#[test]
fn a_removed_file_takes_its_objects_with_it_after_a_while() {
    let (mut scene, _) = Scene::new(&[("a.yaml", service("a", 80))]);
    scene.remove("a.yaml");
    assert_eq!(scene.scan(), NOTHING);
    assert_eq!(scene.after(500), NOTHING);
    assert_eq!(scene.after(100), ["-Service default/a"]);
}

#[test]
fn a_broken_file_keeps_what_it_said_and_is_reported_until_it_is_repaired() {
    let both = service("a", 80) + &service("b", 80);
    let (mut scene, _) = Scene::new(&[("a.yaml", both.clone())]);
    scene.write("a.yaml", &(service("a", 81) + "---\nkind: [\n"));
    scene.touch("a.yaml", Touch::Closed);
    assert_eq!(scene.after(600), ["+Service default/a"], "the good document is in force");
    assert!(scene.problems[0].starts_with("a.yaml:"), "{:?}", scene.problems);
    scene.write("a.yaml", &both);
    scene.touch("a.yaml", Touch::Closed);
    assert_eq!(scene.after(50), ["+Service default/a"]);
    assert_eq!(scene.problems, NOTHING);
}

#[test]
fn a_bad_object_keeps_its_last_good_state() {
    let both = service("a", 80) + &service("b", 80);
    let (mut scene, _) = Scene::new(&[("a.yaml", both)]);
    scene.write("a.yaml", &(service("a", 81) + &service("b", 80).replace("port:", "prot:")));
    scene.touch("a.yaml", Touch::Closed);
    assert_eq!(scene.after(50), ["+Service default/a"]);
    assert_eq!(
        scene.problems,
        ["a.yaml:6: Service default/b: spec.ports[0].prot: unknown field; did you mean \"port\"?"]
    );
}

#[test]
fn of_two_files_with_one_object_the_first_that_was_there_counts() {
    let (mut scene, _) = Scene::new(&[("b.yaml", service("x", 80))]);
    scene.write("a.yaml", &service("x", 90));
    scene.touch("a.yaml", Touch::Closed);
    assert_eq!(scene.after(50), NOTHING);
    assert!(scene.problems[0].starts_with("a.yaml:1: Service default/x: the same object stands"));
    assert!(scene.problems[0].contains("b.yaml:1"), "{:?}", scene.problems);
    scene.remove("b.yaml");
    scene.scan();
    assert_eq!(scene.after(600), ["+Service default/x"], "the other takes over");
    assert_eq!(scene.problems, NOTHING);
}

#[test]
fn at_the_start_the_first_by_path_counts() {
    let (scene, events) = Scene::new(&[("b.yaml", service("x", 80)), ("a.yaml", service("x", 90))]);
    assert_eq!(events, ["+Service default/x", "synced"]);
    assert!(scene.problems[0].starts_with("b.yaml:1: "), "{:?}", scene.problems);
}

#[test]
fn a_directory_that_is_gone_changes_nothing() {
    let (mut scene, _) = Scene::new(&[("a.yaml", service("a", 80))]);
    fs::remove_dir_all(scene.dir.path()).unwrap();
    assert_eq!(scene.scan(), NOTHING);
    assert_eq!(scene.after(2000), NOTHING);
    assert!(scene.problems[0].contains("the directory cannot be read"), "{:?}", scene.problems);
}

#[test]
fn what_is_refused_keeps_only_what_it_may_mean() {
    let of = |api_version: &str, kind: &str, name: &str| {
        format!("---\n{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: {name}}}}}\n")
    };
    let (a, b) = ("-Service default/a", "-Service default/b");
    let cases: [(String, &[&str]); 7] = [
        (of("gateway.networking.k8s.io/v1", "TCPRoute", "a"), &[a, b]),
        (of("gateway.networking.k8s.io/v1", "ReferenceGrant", "a"), &[a, b]),
        (of("monitoring.coreos.com/v1", "ServiceMonitor", "a"), &[a, b]),
        (of("v1", "Servce", "a"), &[b]),
        (of("v1", "Servce", "a, namespace: other"), &[a, b]),
        (of("v1", "Service", "A"), &[]),
        ("---\nkind: [\n".into(), &[]),
    ];
    for (document, gone) in cases {
        let both = service("a", 80) + &service("b", 80) + &document;
        let (mut scene, _) = Scene::new(&[("a.yaml", both)]);
        scene.write("a.yaml", &document);
        scene.touch("a.yaml", Touch::Closed);
        assert_eq!(scene.after(600), gone, "{document}");
        assert_eq!(scene.problems.len(), 1, "{document}: {:?}", scene.problems);
    }
}

#[test]
fn an_unreadable_file_keeps_what_it_said() {
    let (mut scene, _) = Scene::new(&[("a.yaml", service("a", 80))]);
    fs::write(scene.dir.path().join("a.yaml"), [0xff, 0xfe]).unwrap();
    scene.touch("a.yaml", Touch::Closed);
    assert_eq!(scene.after(600), NOTHING);
    assert!(scene.problems[0].contains("cannot be read"), "{:?}", scene.problems);
    scene.write("a.yaml", &service("a", 81));
    scene.touch("a.yaml", Touch::Closed);
    assert_eq!(scene.after(50), ["+Service default/a"]);
    assert_eq!(scene.problems, NOTHING);
}

/// What a control plane says at its start over `dir`, with what an earlier one kept in `state`.
fn at_a_start(dir: &Path, state: &Path) -> (Vec<String>, usize) {
    let batch = Directory::new(dir).kept_in(state).scan(Instant::now()).batch.unwrap();
    let told = batch.events.iter().map(|event| match event {
        Event::Upsert(entry) => format!("{} {:?}", show(event), entry.object),
        other => show(other),
    });
    (told.collect(), batch.problems.len())
}

#[test]
fn what_is_broken_at_a_start_is_as_it_was_when_its_file_was_good() {
    let (dir, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    fs::create_dir(dir.path().join("deep")).unwrap();
    write("a.yaml", &(service("a", 80) + &service("b", 80)));
    write("deep/c.yaml", &service("c", 80));
    let state = state.path().join("private");
    let (before, _) = at_a_start(dir.path(), &state);
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);

    write("a.yaml", &(service("a", 0) + &service("b", 80)));
    write("deep/c.yaml", "{");
    let (after, problems) = at_a_start(dir.path(), &state);
    assert_eq!((&after, problems), (&before, 2));

    write("a.yaml", &service("b", 81));
    let (after, _) = at_a_start(dir.path(), &state);
    let keys: Vec<_> = after.iter().filter_map(|told| told.split(' ').nth(1)).collect();
    assert_eq!(keys, ["default/b", "default/c"], "what a good file does not say any more is gone");

    fs::remove_file(dir.path().join("deep/c.yaml")).unwrap();
    at_a_start(dir.path(), &state);
    write("deep/c.yaml", "{");
    let (after, problems) = at_a_start(dir.path(), &state);
    assert_eq!(
        (after.len(), problems),
        (2, 1),
        "a file that was gone is not remembered: {after:?}"
    );
}

#[test]
fn a_file_that_goes_is_forgotten_and_one_that_turns_bad_is_kept() {
    let state = tempfile::tempdir().unwrap();
    let (mut scene, _) = Scene::new(&[]);
    scene.directory = Directory::new(scene.dir.path()).kept_in(state.path());
    scene.write("a.yaml", &service("a", 80));
    assert_eq!(scene.scan(), ["+Service default/a", "synced"]);
    scene.write("a.yaml", &service("a", 0));
    scene.after(1000);
    let (after, problems) = at_a_start(scene.dir.path(), state.path());
    assert_eq!((after.len(), problems), (2, 1), "{after:?}");

    scene.remove("a.yaml");
    scene.after(1000);
    assert_eq!(scene.after(5000), ["-Service default/a"]);
    scene.write("a.yaml", "{");
    let (after, problems) = at_a_start(scene.dir.path(), state.path());
    assert_eq!((after, problems), (vec!["synced".to_owned()], 1));
}
