//! A site's policy file and the paths that it is asked about: what stands below a denied folder is denied.

/// Reads bytes as a policy, a NUL and a path.
pub(super) fn policy(bytes: &[u8]) {
    hoist_agent::policy::try_bytes(bytes);
}
