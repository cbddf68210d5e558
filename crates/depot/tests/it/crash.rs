//! Kills the depot (SIGKILL) while four writers are at work, again and again on one directory, and compares
//! what is there with what was confirmed. The one operation in hand of each writer may have happened or not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bench::{BUCKET, Bench, crc64, md5_hex, pattern, refusal, right_client, start};

const DIR: &str = "HOIST_DEPOT_CRASH_DIR";
const ROUNDS: u64 = 15;
const WRITERS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_outlives_any_kill() {
    let Bench { dir, depot, .. } = Bench::start().await;
    depot.stop().await;
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    for round in 0..ROUNDS {
        let (mut child, url) = start_child(dir.path());
        let (confirmed, mut counter) = watch::channel(0_u64);
        let mut tasks = JoinSet::new();
        for mut writer in writers.drain(..) {
            let (s3, confirmed) = (right_client(&url), confirmed.clone());
            tasks.spawn(async move {
                while writer.step(&s3).await {
                    confirmed.send_modify(|count| *count += 1);
                }
                writer
            });
        }
        // Killed after a few confirmations: the other writers are then anywhere.
        let enough = 5 + round * 7;
        counter.wait_for(|count| *count >= enough).await.unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(writer) = tasks.join_next().await {
            writers.push(writer.unwrap());
        }

        let depot = start(dir.path()).await.unwrap();
        let s3 = right_client(&depot.endpoint_url());
        for writer in &mut writers {
            writer.settle(&s3).await;
        }
        let objects = s3.list_objects_v2().bucket(BUCKET).send().await.unwrap();
        let uploads = s3.list_multipart_uploads().bucket(BUCKET).send().await.unwrap();
        let count = |path: &str| fs::read_dir(dir.path().join(path)).unwrap().count();
        let named = objects.contents().len() + uploads.uploads().len();
        assert_eq!(count("buckets/trial/data"), named, "bytes that nobody names, round {round}");
        assert_eq!(count("tmp"), 0, "temporary files, round {round}");
        depot.stop().await;
    }
    // The test is worth something only if it saw all of it happen.
    let done: Vec<&str> = writers.iter().flat_map(|writer| writer.done.iter().copied()).collect();
    for kind in ["put", "delete", "create", "part", "complete", "abort"] {
        assert!(done.contains(&kind), "no {kind} was confirmed");
    }
    assert!(writers.iter().any(|writer| writer.doubts > 0), "no kill ever met an operation in hand");
}

/// The process that is killed: this very test binary, told to run this one test.
#[test]
#[ignore = "the process that the kill test starts and kills"]
fn the_depot_to_be_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let depot = runtime.block_on(start(Path::new(&dir))).unwrap();
    println!("\nlistening on {}", depot.endpoint_url());
    // Should the test itself die, its end of the pipe closes and this process ends.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn start_child(dir: &Path) -> (Child, String) {
    let args = ["--exact", "crash::the_depot_to_be_killed", "--ignored", "--nocapture"];
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(args)
        .env(DIR, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut urls =
        lines.map_while(Result::ok).filter_map(|l| Some(l.strip_prefix("listening on ")?.to_owned()));
    (child, urls.next().expect("the child listens"))
}

/// One writer on keys of its own, and what it knows to be true.
struct Writer {
    name: u64,
    chance: u64,
    objects: BTreeMap<String, Option<Vec<u8>>>,
    uploads: Vec<Upload>,
    /// What was sent and not confirmed.
    doubt: Option<Step>,
    doubts: usize,
    done: Vec<&'static str>,
}

#[derive(Clone)]
struct Upload {
    key: String,
    id: String,
    parts: BTreeMap<i32, Vec<u8>>,
}

#[derive(Clone)]
enum Step {
    Put(String, Vec<u8>),
    Delete(String),
    Create(String),
    /// Of the last upload.
    Part(i32, Vec<u8>),
    /// The last upload, with this one of its parts.
    Complete(i32),
    Abort,
}

impl Writer {
    fn new(name: u64) -> Self {
        let (objects, uploads, done) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { name, chance: name + 1, objects, uploads, doubt: None, doubts: 0, done }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % below
    }

    fn choose(&mut self) -> Step {
        let slot = self.random(3);
        let key = format!("{}/{slot}", self.name);
        let size = usize::try_from(self.random(400_000)).unwrap();
        let bytes = pattern(self.chance, size);
        let number = i32::try_from(self.random(3) + 1).unwrap();
        let parts = self.uploads.last().map(|upload| upload.parts.clone());
        let stored = parts.as_ref().and_then(|parts| parts.keys().next_back().copied());
        match (self.random(10), parts, stored) {
            (0, _, _) => Step::Delete(key),
            (1 | 2, _, _) => Step::Put(key, bytes),
            (3, Some(_), _) => Step::Abort,
            (4 | 5, _, Some(number)) => Step::Complete(number),
            (6, _, _) | (_, None, _) => Step::Create(key),
            _ => Step::Part(number, bytes),
        }
    }

    /// Does one thing; false when the depot was killed meanwhile.
    async fn step(&mut self, s3: &Client) -> bool {
        let step = self.choose();
        self.doubt = Some(step.clone());
        let Some(id) = self.send(s3, &step).await else {
            self.doubts += 1;
            return false;
        };
        self.doubt = None;
        self.done.push(step.kind());
        self.believe(step, id);
        true
    }

    /// Sends a step; the new upload's id, if it creates one.
    async fn send(&self, s3: &Client, step: &Step) -> Option<String> {
        let last = self.uploads.last();
        let upload = || last.unwrap().clone();
        match step {
            Step::Put(key, bytes) => {
                let put = s3.put_object().bucket(BUCKET).key(key).body(bytes.clone().into());
                answered(put.send().await).map(|_| String::new())
            }
            Step::Delete(key) => {
                answered(s3.delete_object().bucket(BUCKET).key(key).send().await).map(|_| String::new())
            }
            Step::Create(key) => {
                let create = s3.create_multipart_upload().bucket(BUCKET).key(key);
                answered(create.send().await).map(|created| created.upload_id.unwrap())
            }
            Step::Part(number, bytes) => {
                let Upload { key, id, .. } = upload();
                let part = s3.upload_part().bucket(BUCKET).key(key).upload_id(id).part_number(*number);
                let part = part.body(bytes.clone().into()).checksum_crc64_nvme(crc64(bytes));
                answered(part.send().await).map(|_| String::new())
            }
            Step::Complete(number) => {
                let Upload { key, id, parts } = upload();
                let part = CompletedPart::builder().part_number(*number).e_tag(md5_hex(&parts[number]));
                let listed = CompletedMultipartUpload::builder().parts(part.build()).build();
                let complete = s3.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id);
                let complete = complete.multipart_upload(listed).checksum_crc64_nvme(crc64(&parts[number]));
                answered(complete.send().await).map(|_| String::new())
            }
            Step::Abort => {
                let Upload { key, id, .. } = upload();
                let abort = s3.abort_multipart_upload().bucket(BUCKET).key(key).upload_id(id);
                answered(abort.send().await).map(|_| String::new())
            }
        }
    }

    fn believe(&mut self, step: Step, id: String) {
        match step {
            Step::Put(key, bytes) => drop(self.objects.insert(key, Some(bytes))),
            Step::Delete(key) => drop(self.objects.insert(key, None)),
            Step::Create(key) => self.uploads.push(Upload { key, id, parts: BTreeMap::new() }),
            Step::Part(number, bytes) => drop(self.uploads.last_mut().unwrap().parts.insert(number, bytes)),
            Step::Complete(number) => {
                let Upload { key, mut parts, .. } = self.uploads.pop().unwrap();
                self.objects.insert(key, parts.remove(&number));
            }
            Step::Abort => drop(self.uploads.pop().unwrap()),
        }
    }

    /// After a kill: finds out whether the step in doubt happened, and checks all that was confirmed.
    async fn settle(&mut self, s3: &Client) {
        if let Some(step) = self.doubt.take() {
            let happened = match &step {
                Step::Put(key, bytes) => get(s3, key).await.as_ref() == Some(bytes),
                Step::Delete(key) => get(s3, key).await.is_none(),
                // Its id is lost, and nothing was promised.
                Step::Create(_) => false,
                Step::Part(number, bytes) => {
                    let stored = parts(s3, self.uploads.last().unwrap()).await.unwrap();
                    stored.get(number) == Some(&md5_hex(bytes))
                }
                Step::Complete(_) | Step::Abort => parts(s3, self.uploads.last().unwrap()).await.is_none(),
            };
            if happened {
                self.believe(step, String::new());
            }
        }
        for (key, expected) in &self.objects {
            assert!(get(s3, key).await == *expected, "{key} is not what was confirmed");
        }
        for upload in &self.uploads {
            let expected: BTreeMap<i32, String> =
                upload.parts.iter().map(|(n, b)| (*n, md5_hex(b))).collect();
            assert_eq!(parts(s3, upload).await, Some(expected), "upload of {}", upload.key);
        }
    }
}

impl Step {
    fn kind(&self) -> &'static str {
        match self {
            Step::Put(..) => "put",
            Step::Delete(_) => "delete",
            Step::Create(_) => "create",
            Step::Part(..) => "part",
            Step::Complete(_) => "complete",
            Step::Abort => "abort",
        }
    }
}

/// None when the depot died before it answered; any other refusal fails the test.
fn answered<T, E>(result: Result<T, SdkError<E>>) -> Option<T>
where
    E: ProvideErrorMetadata + std::fmt::Debug,
{
    match result {
        Ok(answer) => Some(answer),
        Err(error) => {
            let refusal = refusal(&error);
            assert!(refusal.starts_with("0 ") || refusal.starts_with("200 "), "refused: {refusal}");
            None
        }
    }
}

async fn get(s3: &Client, key: &str) -> Option<Vec<u8>> {
    match s3.get_object().bucket(BUCKET).key(key).send().await {
        Ok(got) => Some(got.body.collect().await.unwrap().to_vec()),
        Err(error) => {
            assert_eq!(refusal(&error), "404 NoSuchKey");
            None
        }
    }
}

/// The stored parts' MD5s; none if the upload is gone.
async fn parts(s3: &Client, upload: &Upload) -> Option<BTreeMap<i32, String>> {
    let list = s3.list_parts().bucket(BUCKET).key(&upload.key).upload_id(&upload.id);
    match list.send().await {
        Ok(list) => Some(
            list.parts()
                .iter()
                .map(|part| (part.part_number().unwrap(), part.e_tag().unwrap().trim_matches('"').to_owned()))
                .collect(),
        ),
        Err(error) => {
            assert_eq!(refusal(&error), "404 NoSuchUpload");
            None
        }
    }
}
