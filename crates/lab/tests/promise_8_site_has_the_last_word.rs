//! Promise 8: which files may leave, when, and to where, is the agent's policy and not the server's.

use std::path::PathBuf;

use hoist_lab::{AgentProcess, Operator, Scene, Site, WITHIN, eventually};

const CLIENT: &str = "restaurant-1";

/// A scene whose agent has nothing but a policy file.
struct Place {
    scene: Scene,
    operator: Operator,
    agent: AgentProcess,
    policy: PathBuf,
}

impl Place {
    /// Starts it with the site's folder as root, and these lines.
    async fn with(lines: &str) -> Self {
        let scene = Scene::trial().start().await;
        let operator = scene.operator();
        let policy = scene.folder().join("policy.toml");
        std::fs::write(&policy, text(&scene, lines)).unwrap();
        let agent = scene.bare_agent(CLIENT).env("POLICY_FILE", &policy).start();
        operator.sees(CLIENT, true).await;
        Self { scene, operator, agent, policy }
    }

    /// Writes another policy, has the agent read it, and waits until it says so.
    async fn now(&self, lines: &str, says: &str) {
        std::fs::write(&self.policy, text(&self.scene, lines)).unwrap();
        let before = self.agent.log().matches(says).count();
        self.agent.hang_up();
        eventually("the agent to have read its policy again", WITHIN, || async {
            let log = self.agent.log();
            if log.matches(says).count() > before { Ok(()) } else { Err(log) }
        })
        .await;
    }

    async fn refused(&self, asked: &str) -> (String, String) {
        let asked = self.operator.ask(CLIENT, asked).await;
        self.operator.fails(asked.id).await
    }

    async fn comes(&self, asked: &str) {
        let asked = self.operator.ask(CLIENT, asked).await;
        self.operator.completes(asked.id).await;
    }
}

fn text(scene: &Scene, lines: &str) -> String {
    format!("roots = [{:?}]\n{lines}\n", scene.site.root())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rule_that_refuses_is_named_and_tells_nothing_of_what_is_there() {
    let place = Place::with("deny = [\"*.key\", \"private/**\"]").await;
    let site = &place.scene.site;
    site.random("till.key", 10);
    site.random("report", 10);
    std::os::unix::fs::symlink("till.key", site.path("harmless")).unwrap();
    std::fs::hard_link(site.path("report"), site.path("disguise")).unwrap();
    let (code, there) = place.refused("till.key").await;
    assert_eq!(code, "denied_by_policy");
    assert!(there.contains("deny \"*.key\""), "{there}");
    let (_, absent) = place.refused("abse.key").await;
    assert_eq!(there.replace("till", "abse"), absent);
    assert_eq!(place.refused("TILL.KEY").await.0, "denied_by_policy");
    assert_eq!(place.refused("private/x").await.0, "denied_by_policy");
    assert_eq!(place.refused("harmless").await.0, "denied_by_policy");
    assert_eq!(place.refused("disguise").await.0, "hard_linked");
    let outside = Site::new();
    let secret = outside.random("secret", 10);
    assert_eq!(place.refused(secret.to_str().unwrap()).await.0, "outside_roots");
    site.random("other", 10);
    place.comes("other").await;
    place.scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_policy_is_used_by_the_next_request_and_a_bad_one_changes_nothing() {
    let place = Place::with("").await;
    place.scene.site.random("report", 10);
    place.comes("report").await;
    place.now("deny = [\"report\"]", "the policy was read again").await;
    assert_eq!(place.refused("report").await.0, "denied_by_policy");
    place.now("deny = [\"[r]eport\"]", "the policy stays as it was").await;
    assert!(place.agent.log().contains("line 2"), "{}", place.agent.log());
    assert_eq!(place.refused("report").await.0, "denied_by_policy");
    place.now("", "the policy was read again").await;
    place.comes("report").await;
    place.scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outside_the_hours_a_request_waits_and_says_until_when() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let hour = now / 3600 % 24;
    let span = format!("{:02}:00-{:02}:00", (hour + 3) % 24, (hour + 4) % 24);
    let place = Place::with(&format!("timezone = \"UTC\"\nhours = [\"{span}\"]")).await;
    place.scene.site.random("report", 10);
    let asked = place.operator.ask(CLIENT, "report").await;
    let waits = place.operator.until(asked.id, "to wait for its hours", |it| {
        it.reason == Some(hoist_wire::ReasonCode::OutsideHours)
    });
    let shown = format!("{:?}", waits.await);
    assert!(shown.contains(&span), "{shown}");
    assert_eq!(place.operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    place.scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_goes_to_a_host_that_is_not_named() {
    let place = Place::with("storage_hosts = [\"bucket.example.com\"]").await;
    place.scene.site.random("report", 10);
    let (code, message) = place.refused("report").await;
    assert_eq!(code, "storage_not_allowed");
    assert!(message.contains("storage_hosts (bucket.example.com)"), "{message}");
    place.now("storage_hosts = [\"127.0.0.1\"]", "the policy was read again").await;
    place.comes("report").await;
    place.scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_brings_the_newest_file_and_a_day_has_its_share() {
    let scene = Scene::trial().start().await;
    let root = scene.site.root().to_path_buf();
    scene.site.random("day-1.csv", 10);
    scene.site.random("day-2.csv", 20);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::open(scene.site.path("day-1.csv")).unwrap().set_modified(old).unwrap();
    let policy = scene.folder().join("policy.toml");
    let names = format!("[names]\nreport = \"{}/day-*.csv\"\n", root.display());
    let day = scene.folder().join("day");
    let lines = format!("max_bytes_a_day = \"6MiB\"\nday_file = {day:?}\n{names}");
    std::fs::write(&policy, format!("roots = [\"{}\"]\n{lines}", root.display())).unwrap();
    let agent = scene.bare_agent(CLIENT).env("POLICY_FILE", &policy).start();
    let operator = scene.operator();
    operator.sees(CLIENT, true).await;
    let done = operator.completes(operator.ask(CLIENT, "@report").await.id).await;
    assert!(done.object_key.unwrap().ends_with("day-2.csv"));
    let failed = operator.fails(operator.ask(CLIENT, "@reprot").await.id).await;
    assert!(failed.1.contains("@report"), "{failed:?}");
    // Two parts of 5 MiB are more than the day's: the second waits for tomorrow, with its reason.
    scene.site.random("large", 10 << 20);
    let asked = operator.ask(CLIENT, "large").await;
    let waits = operator.until(asked.id, "to wait for tomorrow", |it| {
        it.reason == Some(hoist_wire::ReasonCode::RefusedForNow)
    });
    let waits = waits.await;
    assert!(waits.reason_message.unwrap().contains("max_bytes_a_day"));
    assert!(std::fs::read_to_string(&day).unwrap().starts_with("hoist-day-1 "));
    // An agent that is started anew knows what was sent today: not even one part leaves now.
    drop(agent);
    operator.sees(CLIENT, false).await;
    let agent = scene.bare_agent(CLIENT).env("POLICY_FILE", &policy).start();
    let again = operator.ask(CLIENT, "large").await;
    let waits = operator.until(again.id, "to wait for tomorrow", |it| {
        it.reason == Some(hoist_wire::ReasonCode::RefusedForNow)
    });
    assert_eq!(waits.await.stored_bytes, 0);
    assert_eq!(operator.delete(&format!("/downloads/{}", again.id)).await.status, 200);
    assert_eq!(operator.delete(&format!("/downloads/{}", asked.id)).await.status, 200);
    drop(agent);
    scene.finish().await;
}
