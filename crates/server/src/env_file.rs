//! The file `.env` of the folder that the program is started in. Deliberately absent: the folders above it.

/// Takes settings from `.env`, where there is one; what the environment has already wins.
///
/// # Errors
/// What is wrong with the file, never with words of it: they may be a secret.
pub(crate) fn load_env_file() -> Result<(), String> {
    let text = match std::fs::read_to_string(".env") {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!(".env cannot be read: {error}; make it a text file, or remove it")),
    };
    let (mut entry, mut begins) = (String::new(), 1);
    for (next, line) in (2..).zip(text.split_inclusive('\n')) {
        entry.push_str(line);
        // What is no setting yet may be one with the next line: quotes reach over several.
        if dotenvy::from_read(entry.as_bytes()).is_ok() {
            (entry, begins) = (String::new(), next);
        }
    }
    if entry.is_empty() {
        return Ok(());
    }
    Err(format!(".env, line {begins}: it is not NAME=value; quote values with blanks or #, and close quotes"))
}
