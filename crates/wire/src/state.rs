//! The states of a download, why it is there, and how it ended.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Gives a closed enum of unit variants its names: `as_str`, `ALL`, and reading them back.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub enum $name { $($(#[$doc])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every value, in the order of the definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Gives the name used in JSON and in the store.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| UnknownName {
                    what: stringify!($name),
                    text: text.chars().take(64).collect(),
                })
            }
        }
    };
}

/// A text that names nothing of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not one of the names of {what}")]
pub struct UnknownName {
    pub(crate) what: &'static str,
    pub(crate) text: String,
}

named! {
    /// Where a download is in its life.
    State {
        /// Accepted and durable; no agent has it.
        Queued => "queued",
        /// An agent has it.
        Uploading => "uploading",
        /// The agent has sent all; the server completes and proves. No link event moves it.
        Completing => "completing",
        /// The object is there, and it is the file.
        Completed => "completed",
        /// It ended without an object that is proven.
        Failed => "failed",
        /// The operator ended it.
        Cancelled => "cancelled",
        /// The deadline ended it.
        Expired => "expired",
    }
}

impl State {
    /// Tells whether a download in this state never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Expired)
    }
}

named! {
    /// Why a download that is not final is where it is.
    ReasonCode {
        /// The client has no link to any node.
        ClientOffline => "client_offline",
        /// The client works on as many downloads as it can.
        ClientBusy => "client_busy",
        /// The agent refused for now and will be asked again.
        RefusedForNow => "refused_for_now",
        /// The agent was asked and looks at the file.
        Starting => "starting",
        /// The agent reads and hashes.
        Hashing => "hashing",
        /// Bytes are on their way.
        Sending => "sending",
        /// The link to the agent died; it goes on when the agent is back.
        LinkLost => "link_lost",
        /// The agent cannot reach the bucket.
        StorageUnreachable => "storage_unreachable",
        /// The bucket asked the agent to slow down.
        StorageThrottled => "storage_throttled",
        /// The agent holds back to keep below its rate.
        PausedByRate => "paused_by_rate",
        /// The agent's policy allows other hours.
        OutsideHours => "outside_hours",
        /// Another program at the site holds the file.
        FileLocked => "file_locked",
        /// The file changed while it was read; a new pass begins.
        FileChanged => "file_changed",
        /// The server cannot reach the bucket, or may not write there.
        BucketUnavailable => "bucket_unavailable",
        /// The multipart upload is gone without an object; a new one begins.
        UploadLost => "upload_lost",
        /// Storage lacks parts that it had confirmed; they are sent again.
        PartsMissing => "parts_missing",
        /// Complete was or is being sent.
        Completing => "completing",
        /// The server looks at the object.
        Verifying => "verifying",
        /// The server cannot see whether the object is right, and keeps looking.
        CannotVerify => "cannot_verify",
    }
}

named! {
    /// What happens to a download when its file changes while it is read.
    OnChange {
        /// A new pass, which sends again only parts whose hash differs; at most three.
        Restart => "restart",
        /// The download fails.
        Fail => "fail",
        /// The size is fixed at the offer; the file may grow behind it.
        Prefix => "prefix",
    }
}

named! {
    /// How a download, or one attempt of it, ended for the agent.
    Outcome {
        /// Proven and done.
        Completed => "completed",
        /// Failed for good.
        Failed => "failed",
        /// Cancelled by an operator.
        Cancelled => "cancelled",
        /// Ended by its deadline.
        Expired => "expired",
        /// Another attempt took its place.
        Superseded => "superseded",
        /// Put back into the queue.
        Requeued => "requeued",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
            assert_eq!(serde_json::to_string(state).unwrap(), format!("\"{state}\""));
        }
        assert!("done".parse::<State>().is_err());
    }
}
