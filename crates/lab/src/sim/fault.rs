//! What can go wrong, and how often in this run: each seed draws its own weather.

use super::chance::Chance;

/// Gives an enum of faults its names.
macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)+) => {
        /// A kind of fault, or of work that an operator or a site brings.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $variant,)+ }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Gives the name that the tables show.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

faults! {
    /// Both ends see the connection break.
    LinkCut => "link cut",
    /// No frame of a client passes, in one direction or both.
    LinkPartition => "link partition",
    /// A frame, and all behind it, is late by seconds.
    LinkDelay => "link delay",
    /// The server has the link, the agent never hears of it.
    DialLost => "dial half open",
    /// A client does not reach storage.
    StoragePartition => "storage partition",
    /// An agent dies at once, and another process starts.
    AgentCrash => "agent crash",
    /// An agent is told to stop, and starts again.
    AgentStop => "agent stop",
    /// A machine loses its power: nobody hears that its connections ended.
    AgentPowerLoss => "agent power loss",
    /// The server dies at once, and starts again.
    ServerCrash => "server crash",
    /// The server is told to stop, and starts again.
    ServerStop => "server stop",
    /// A statement fails and did nothing.
    StoreError => "store error",
    /// A statement fails and was carried out.
    StoreUnsure => "store error after commit",
    /// A statement takes seconds.
    StoreSlow => "store slow",
    /// Storage answers 5xx and does nothing.
    BucketError => "bucket 5xx",
    /// Storage answers 5xx and has done it.
    BucketErrorDone => "bucket 5xx, carried out",
    /// A request never arrives.
    BucketLostRequest => "bucket request lost",
    /// A request is carried out, and its answer lost.
    BucketLostReply => "bucket reply lost",
    /// A request is carried out long after its sender gave up.
    BucketLate => "bucket request late",
    /// Storage denies the rights for a while.
    BucketDenied => "bucket denies",
    /// HEAD does not show an object yet.
    HeadStale => "head behind",
    /// The connection breaks before the part is there.
    PutBroken => "put broken",
    /// A part is stored, and the answer lost.
    PutLostReply => "put reply lost",
    /// A part arrives long after its sender gave up.
    PutLate => "put late",
    /// Storage takes no byte.
    PutSilent => "put silent",
    /// 503.
    PutThrottled => "put throttled",
    /// 500.
    PutError => "put 5xx",
    /// The network changed bytes.
    PutDamaged => "put damaged",
    /// 403 with a good grant.
    PutDenied => "put denied",
    /// An upload vanishes, as by a lifecycle rule.
    UploadLost => "upload lost",
    /// A stored part vanishes.
    PartLost => "part lost",
    /// A file is replaced by another one under its name.
    FileReplaced => "file replaced",
    /// Bytes of an open file change.
    FileWritten => "file written",
    /// Bytes change, and the modified time is set back.
    FileSneaky => "file written, time set back",
    /// A file grows.
    FileGrown => "file grown",
    /// A file shrinks.
    FileShrunk => "file shrunk",
    /// A file is removed, and comes back later.
    FileRemoved => "file removed",
    /// The server's wall clock jumps.
    ClockJump => "clock jump",
    /// An operator cancels.
    Cancel => "cancel",
    /// An operator asks for a file.
    Request => "request",
}

/// How likely each fault is: in thousandths of its occasions, or its weight among the events of the plan.
#[derive(Debug, Clone)]
pub(crate) struct Weather([u16; Fault::ALL.len()]);

impl Weather {
    /// Draws the weather of a run. Half of the kinds do not come at all, so that others meet undisturbed.
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let mut odds = [0; Fault::ALL.len()];
        let fierce = 1 + chance.below(4);
        for odd in &mut odds {
            let strength = 10 + chance.below(60 * fierce);
            if chance.below(2) == 0 {
                *odd = u16::try_from(strength).unwrap_or(u16::MAX);
            }
        }
        let mut weather = Self(odds);
        // A statement is made for everything: seldom is often enough.
        for often in [Fault::StoreError, Fault::StoreUnsure, Fault::StoreSlow, Fault::LinkDelay] {
            weather.set(often, weather.odds(often) / 3);
        }
        weather.set(Fault::Request, 120);
        // These end attempts or uploads: where they are frequent nothing else is seen.
        for rare in
            [Fault::UploadLost, Fault::PartLost, Fault::ClockJump, Fault::PutDenied, Fault::FileRemoved]
        {
            weather.set(rare, weather.odds(rare).min(20));
        }
        // A wall clock that runs ahead makes the reaper's last look early. What lands after that is for the bucket's
        // lifecycle rule: the decision says so, and the two are not tried together.
        if weather.odds(Fault::BucketLate) > 0 {
            weather.set(Fault::ClockJump, 0);
        }
        weather
    }

    pub(crate) fn calm() -> Self {
        Self([0; Fault::ALL.len()])
    }

    pub(crate) fn odds(&self, fault: Fault) -> u16 {
        self.0[fault as usize]
    }

    fn set(&mut self, fault: Fault, odds: u16) {
        self.0[fault as usize] = odds;
    }
}
