//! Waiting for a download to end, through restarts of the server, by asking again and again.

use std::path::Path;
use std::time::Duration;

use hoist_wire::State;
use hoist_wire::rest::Download;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{self, Api, Ask, Reply};
use crate::failure::Failure;
use crate::save;
use crate::screen::Screen;
use crate::text;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Waits until a download ends, and saves its object where that is wanted; `seen` is the newest record at all times.
///
/// # Errors
/// [`Failure::Ended`] when it ends without an object, [`Failure::TimedOut`], [`Failure::Interrupted`], or what
/// asking and saving can end with.
pub(crate) async fn wait(
    api: &Api,
    seen: &mut Reply<Download>,
    timeout: Option<Duration>,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let id = seen.value.id;
    let mut screen = Screen::new();
    let stop = stop_signal()?;
    let work = async {
        match timeout {
            Some(timeout) => tokio::time::timeout(timeout, follow(api, seen, &mut screen))
                .await
                .unwrap_or(Err(Failure::TimedOut(id)))?,
            None => follow(api, seen, &mut screen).await?,
        }
        if seen.value.state != State::Completed {
            return Err(Failure::Ended(Box::new(seen.value.clone())));
        }
        match output {
            Some(path) => save::save(api, &seen.value, path, &mut screen).await,
            None => Ok(()),
        }
    };
    // An interrupted save drops its temporary file on the way out.
    tokio::select! {
        result = work => result,
        () = stop => Err(Failure::Interrupted(id)),
    }
}

async fn follow(api: &Api, seen: &mut Reply<Download>, screen: &mut Screen) -> Result<(), Failure> {
    let id = seen.value.id.to_string();
    let ask = Ask::get(&["downloads", &id]);
    let mut usual = FIRST_PAUSE;
    let mut pause = usual;
    let mut lost = false;
    loop {
        screen.show(&seen.value);
        if seen.value.state.is_final() {
            return Ok(());
        }
        tokio::time::sleep(pause).await;
        usual = usual.mul_f64(1.4).min(LONGEST_PAUSE);
        pause = usual;
        match api.once(&ask).await {
            Ok(reply) => {
                if std::mem::take(&mut lost) {
                    screen.note("the server is back");
                }
                *seen = reply;
            }
            Err(failure) if failure.is_passing() => {
                pause = api::pause(&failure, usual);
                if !std::mem::replace(&mut lost, true) {
                    screen.note(&format!("{}; trying again until it can", text::safe(&failure.to_string())));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Waits for Ctrl-C or a request to end; from here on neither ends the process by itself.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let on = |kind| signal(kind).map_err(|error| Failure::Input(format!("cannot wait for signals: {error}")));
    let mut interrupt = on(SignalKind::interrupt())?;
    let mut terminate = on(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
