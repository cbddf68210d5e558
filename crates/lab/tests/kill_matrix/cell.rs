//! One cell: one death at one edge of one step, and what must be true afterwards.

use std::fmt;
use std::path::Path;

use hoist_lab::scripted::sums;
use hoist_lab::stage::CLIENT;
use hoist_lab::watch::{Edge, Ledger, Side, Stop};
use hoist_lab::{AgentProcess, Operator, Stage};
use hoist_wire::rest::Download;
use hoist_wire::{ChecksumKind, DownloadId, State};
use serde_json::json;

const PART: u64 = 5 * 1024 * 1024;

/// The file that is brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    OnePart,
    ThreeParts,
}

impl Files {
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::OnePart => 123_456,
            Self::ThreeParts => 2 * PART + 77,
        }
    }

    fn parts(self) -> u16 {
        match self {
            Self::OnePart => 1,
            Self::ThreeParts => 3,
        }
    }
}

/// In which life of the download the step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In its first.
    First,
    /// In its first, where the step comes a second time: the look at the object that was made.
    Proof,
    /// In its first, while its first part does not get through.
    Slow,
    /// After the agent was killed before it heard that its first part is stored.
    Resumed,
    /// After the server was killed before it heard of the upload that it had created.
    Lost,
    /// After an operator cancelled it, while its first part does not get through.
    Cancelled,
}

impl Phase {
    /// Where it begins; none where it begins with the first word.
    fn begins_at(self) -> Option<Stop> {
        let (step, edge) = match self {
            Self::First | Self::Proof => return None,
            Self::Slow | Self::Cancelled => ("UploadPart", Edge::Before),
            Self::Resumed => ("UploadPart", Edge::After),
            Self::Lost => ("CreateMultipartUpload", Edge::After),
        };
        Some(Stop { step, nth: 1, edge })
    }
}

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Agent,
    Server,
    /// Both at once: then only storage remembers.
    Both,
}

impl Victim {
    fn sides(self) -> &'static [Side] {
        match self {
            Self::Agent => &[Side::Agent],
            Self::Server => &[Side::Server],
            Self::Both => &[Side::Agent, Side::Server],
        }
    }
}

/// One cell of the matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) step: &'static str,
    pub(crate) phase: Phase,
    pub(crate) files: Files,
    pub(crate) victim: Victim,
    pub(crate) edge: Edge,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edge = if self.edge == Edge::Before { "before" } else { "after" };
        let victim = match self.victim {
            Victim::Agent => "agent",
            Victim::Server => "server",
            Victim::Both => "both",
        };
        let files = if self.files == Files::OnePart { "one part" } else { "three parts" };
        let phase = match self.phase {
            Phase::First => "",
            Phase::Proof => " of the proof",
            Phase::Slow => " of a slow part",
            Phase::Resumed => " of a resume",
            Phase::Lost => " of a lost upload",
            Phase::Cancelled => " of a cancelled download",
        };
        write!(f, "{victim} killed {edge} {}{phase}, {files}", self.step)
    }
}

impl Cell {
    /// Plays it, and says what was seen.
    pub(crate) async fn run(self) -> String {
        let mut stage = Stage::begin().env("S3_CHECKSUM", proof().as_str()).set().await;
        let path = stage.scene.site.random("report", self.files.bytes());
        let operator = stage.scene.operator();
        stage.steps.stop_at(self.phase.begins_at().unwrap_or_else(|| self.stop()));
        // Asked before the agent was ever there: from its first word on everything is watched.
        let body = json!({"file_path": path.to_str().unwrap(), "allow_unknown": true});
        let id = operator.ask_with(CLIENT, &body).await.id;
        // One slot, so that one that is lost is missed.
        let mut agent = stage.agent().env("AGENT_SLOTS", "1").start();
        stage.steps.reached().await.unwrap();
        if self.phase.begins_at().is_some() {
            self.prelude(&mut stage, &mut agent, id).await;
            stage.steps.reached().await.unwrap();
        }
        let ledger = self.strike(&mut stage, &mut agent, self.victim.sides(), None).await;
        let download = operator.ends(id).await;
        let said = if self.phase == Phase::Cancelled {
            assert_eq!(download.state, State::Cancelled, "{download:#?}");
            "cancelled".to_owned()
        } else {
            assert_eq!(download.state, State::Completed, "{download:#?}");
            let again = ledger.check(&stage.steps.seen(), self.files.parts());
            is_whole(&stage, &operator, &download, &path).await;
            format!("attempt {}, {again} bytes again", download.attempt)
        };
        goes_on(&stage, &operator, &download).await;
        stage.finish().await;
        drop(agent);
        said
    }

    /// Does what the phase begins with, and lets everything go on to the step.
    async fn prelude(self, stage: &mut Stage, agent: &mut AgentProcess, id: DownloadId) {
        let next = Some(self.stop());
        match self.phase {
            Phase::First | Phase::Proof | Phase::Slow => stage.steps.stop_at(self.stop()),
            Phase::Resumed => drop(self.strike(stage, agent, &[Side::Agent], next).await),
            Phase::Lost => drop(self.strike(stage, agent, &[Side::Server], next).await),
            Phase::Cancelled => {
                stage.steps.stop_at(self.stop());
                let reply = stage.scene.operator().delete(&format!("/downloads/{id}")).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
        }
    }

    fn stop(self) -> Stop {
        // In the middle of a file where it has a middle.
        let again =
            (self.step, self.files) == ("UploadPart", Files::ThreeParts) || self.phase == Phase::Proof;
        let nth = if again { 2 } else { 1 };
        Stop { step: self.step, nth, edge: self.edge }
    }

    /// Kills the victims, lets everything go on, up to `next` if there is one, and starts them again.
    async fn strike(
        self,
        stage: &mut Stage,
        agent: &mut AgentProcess,
        victims: &'static [Side],
        next: Option<Stop>,
    ) -> Ledger {
        let (agent_dies, server_dies) = (victims.contains(&Side::Agent), victims.contains(&Side::Server));
        if server_dies {
            stage.scene.server.kill();
        }
        if agent_dies {
            agent.kill();
        }
        let seen = stage.steps.seen();
        let ledger = Ledger::at(seen, victims, stage.bucket.next_connection().await);
        stage.steps.go_on_without(victims);
        if let Some(next) = next {
            stage.steps.stop_at(next);
        }
        if server_dies {
            stage.scene.server.restart().await;
        }
        if agent_dies {
            agent.start_again();
        }
        ledger
    }
}

/// Gives the proof that the bucket is used with.
fn proof() -> ChecksumKind {
    match std::env::var("HOIST_KILL_CHECKSUM").as_deref() {
        Ok("part_md5") => ChecksumKind::PartMd5,
        Ok("crc64nvme") | Err(_) => ChecksumKind::Crc64nvme,
        Ok(other) => panic!("HOIST_KILL_CHECKSUM is {other:?}: say crc64nvme or part_md5"),
    }
}

/// Compares file, object and record.
async fn is_whole(stage: &Stage, operator: &Operator, download: &Download, path: &Path) {
    let local = std::fs::read(path).unwrap();
    let size = local.len() as u64;
    let crc = Some(sums(&local).crc64nvme.to_string());
    let (bytes, _) = operator.fetch(download.id).await;
    assert!(bytes == local, "the object has other bytes than the file");
    let head = stage.scene.storage.head(download.object_key.as_ref().unwrap()).await.unwrap();
    let proof = proof();
    assert_eq!(head.size_bytes, size, "the object's size");
    assert!(proof != ChecksumKind::Crc64nvme || head.crc64nvme == crc, "the object's checksum: {head:?}");
    assert_eq!((download.size_bytes, download.stored_bytes), (Some(size), size), "the record's sizes");
    assert_eq!((&download.checksum_crc64nvme, download.proof), (&crc, Some(proof)));
    assert_eq!((download.reason, download.next_step.clone()), (None, None), "the record's reason");
    assert!(download.error.is_none() && download.finished_at >= download.started_at, "{download:#?}");
}

/// Checks that the record stays as it is, and that the agent's only slot is free.
async fn goes_on(stage: &Stage, operator: &Operator, download: &Download) {
    let next = stage.scene.site.random("next", 1000);
    let asked = operator.ask(CLIENT, next.to_str().unwrap()).await;
    operator.completes(asked.id).await;
    let now = operator.show(download.id).await;
    assert_eq!(now.state, download.state);
    assert_eq!((now.object_key, now.attempt), (download.object_key.clone(), download.attempt));
}
