//! Each command: what it asks, and what it prints.

mod access;
mod audit;

use std::collections::BTreeMap;

use hoist_wire::rest::{ClientPage, ClientStatus, Download, DownloadChange, DownloadPage, DownloadRequest};
use hoist_wire::{ClientId, DownloadId};
use serde_json::{Value, json};

use crate::api::{Api, Ask, Reply};
use crate::args::{self, Cli, Command, Waiting};
use crate::failure::Failure;
use crate::{save, settings, text, wait};

/// Most things on a page that are asked for at once.
const PAGE: u32 = 100;

/// Does what the command line says.
///
/// # Errors
/// Whatever kept it from that.
pub(crate) async fn run(cli: Cli) -> Result<(), Failure> {
    if let Command::Token { whose } = &cli.command {
        return access::make_token(&cli, whose).await;
    }
    let api = api(&cli)?;
    let json = cli.json;
    match cli.command {
        Command::Download(download) => ask_for(&api, &download, json).await,
        Command::Show { id } => {
            let reply = api.send(&one(id)).await?;
            print_card(&reply, json)
        }
        Command::Watch { id, waiting } => {
            check_output(&waiting)?;
            let reply = api.send(&one(id)).await?;
            wait_and_print(&api, reply, &waiting, json).await
        }
        Command::Cancel { id } => {
            let reply: Reply<Download> = api.send(&Ask::delete(&["downloads", &id.to_string()])).await?;
            if json {
                text::print(&text::safe_json(&reply.text))
            } else {
                text::print(&format!("{} {}", reply.value.id, reply.value.state))
            }
        }
        Command::Retry { id, no_wait, waiting } => {
            check_output(&waiting)?;
            let old: Download = api.send(&one(id)).await?.value;
            let request = DownloadRequest {
                file_path: old.file_path,
                metadata: old.metadata,
                ttl_secs: None,
                on_change: Some(old.on_change),
                max_rate_bytes_per_sec: old.max_rate_bytes_per_sec,
                // It was asked for before, whether the client has been seen by now or not.
                allow_unknown: true,
            };
            let order = Order { client: old.client_id, request, key: settings::random_id()? };
            place(&api, &order, no_wait, &waiting, json).await
        }
        Command::Limit { id, rate } => {
            let change = write(&DownloadChange { max_rate_bytes_per_sec: rate.0 })?;
            let reply: Reply<Download> =
                api.send(&Ask::patch(&["downloads", &id.to_string()], change)).await?;
            if json {
                text::print(&text::safe_json(&reply.text))
            } else {
                text::print(&format!("{} {}", reply.value.id, text::standing(&reply.value)))
            }
        }
        Command::Downloads(filter) => downloads(&api, &filter, json).await,
        Command::Status { client } => {
            let reply = api.send(&Ask::get(&["status", client.as_str()])).await?;
            status(&reply, json)
        }
        Command::List | Command::Clients { what: args::Clients::List } => clients(&api, json).await,
        Command::Clients { what } => access::clients(&api, what, json).await,
        Command::Operators { what } => access::operators(&api, what, json).await,
        Command::Audit(asked) => audit::run(&api, asked, json).await,
        Command::Token { .. } => Ok(()),
    }
}

fn api(cli: &Cli) -> Result<Api, Failure> {
    let base = match &cli.server {
        Some(url) => url.clone(),
        None => settings::server_url()?,
    };
    Api::new(base, settings::secret("OPERATOR_TOKEN").as_ref())
}

fn one(id: DownloadId) -> Ask {
    Ask::get(&["downloads", &id.to_string()])
}

fn check_output(waiting: &Waiting) -> Result<(), Failure> {
    waiting.output.as_deref().map(save::place).transpose().map(|_| ())
}

async fn ask_for(api: &Api, download: &args::Download, json: bool) -> Result<(), Failure> {
    let (client, file_path) = download.target().map_err(Failure::Input)?;
    check_output(&download.waiting)?;
    let mut metadata = BTreeMap::new();
    for (key, value) in &download.metadata {
        if metadata.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::Input(format!("--metadata {key} is given twice")));
        }
    }
    let request = DownloadRequest {
        file_path,
        metadata,
        ttl_secs: download.ttl.map(|ttl| ttl.as_secs()),
        on_change: download.on_change,
        max_rate_bytes_per_sec: download.max_rate,
        allow_unknown: download.allow_unknown,
    };
    let key = match &download.idempotency_key {
        Some(key) => key.clone(),
        None => settings::random_id()?,
    };
    place(api, &Order { client, request, key }, download.no_wait, &download.waiting, json).await
}

/// A request for a file of a client.
struct Order {
    client: ClientId,
    request: DownloadRequest,
    /// Two orders with the same key are one download.
    key: String,
}

/// Asks for a file, and waits for it unless that is not wanted.
async fn place(
    api: &Api,
    order: &Order,
    no_wait: bool,
    waiting: &Waiting,
    json: bool,
) -> Result<(), Failure> {
    let path = ["trigger-download", order.client.as_str()];
    let reply: Reply<Download> =
        api.send(&Ask::post(&path, write(&order.request)?, Some(order.key.clone()))).await?;
    if !no_wait {
        text::note(&format!("download {}", reply.value.id));
        return wait_and_print(api, reply, waiting, json).await;
    }
    if json {
        text::print(&text::safe_json(&reply.text))
    } else {
        text::note(&text::standing(&reply.value));
        text::print(&reply.value.id.to_string())
    }
}

/// Waits, and prints the newest record also when the waiting ends badly.
async fn wait_and_print(
    api: &Api,
    mut reply: Reply<Download>,
    waiting: &Waiting,
    json: bool,
) -> Result<(), Failure> {
    let result = wait::wait(api, &mut reply, waiting.timeout, waiting.output.as_deref()).await;
    let printed = if json || result.is_ok() { print_card(&reply, json) } else { Ok(()) };
    if result.is_ok()
        && !json
        && let Some(path) = &waiting.output
    {
        text::note(&format!("saved to {}", text::safe(&path.display().to_string())));
    }
    result.and(printed)
}

fn print_card(reply: &Reply<Download>, json: bool) -> Result<(), Failure> {
    text::print(&if json { text::safe_json(&reply.text) } else { text::card(&reply.value) })
}

/// Fetches page after page until there is no more, or `limit` things are there; gives the things and the cursor.
async fn pages(api: &Api, path: &str, query: &Query, limit: usize) -> Result<(Vec<Value>, Value), Failure> {
    let mut things = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let missing = u32::try_from(limit - things.len()).unwrap_or(PAGE).min(PAGE);
        let mut ask =
            Ask::get(&[path]).query("limit", Some(missing.to_string())).query("cursor", cursor.clone());
        for (name, value) in query {
            ask = ask.query(name, value.clone());
        }
        let mut page: Value = api.send(&ask).await?.value;
        let next = page.get_mut("next").map(Value::take).unwrap_or_default();
        let Some(Value::Array(items)) = page.get_mut(path).map(Value::take) else {
            let cause = format!("it has no list {path:?}");
            return Err(Failure::Answer { what: format!("GET /{path}"), cause });
        };
        things.extend(items);
        // A cursor that leads to itself would lead nowhere for ever.
        if next.is_null() || things.len() >= limit || next.as_str() == cursor.as_deref() {
            return Ok((things, next));
        }
        cursor = next.as_str().map(str::to_owned);
    }
}

type Query = [(&'static str, Option<String>)];

fn typed<T: serde::de::DeserializeOwned>(page: Value, what: &str) -> Result<T, Failure> {
    serde_json::from_value(page)
        .map_err(|error| Failure::Answer { what: format!("GET /{what}"), cause: error.to_string() })
}

async fn downloads(api: &Api, filter: &args::Downloads, json: bool) -> Result<(), Failure> {
    let query = [
        ("client_id", filter.client_id.as_ref().map(ToString::to_string)),
        ("state", filter.state.map(|state| state.to_string())),
    ];
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let (things, next) = pages(api, "downloads", &query, limit).await?;
    let page = json!({ "downloads": things, "next": next });
    if json {
        return text::print(&text::safe_json(&page.to_string()));
    }
    let page: DownloadPage = typed(page, "downloads")?;
    let rows: Vec<_> = page.downloads.iter().map(row).collect();
    text::print(&text::table(&ROW, &rows))?;
    if page.next.is_some() {
        text::note(&format!("there are more; --limit {} shows more", filter.limit.saturating_mul(10)));
    }
    Ok(())
}

const ROW: [&str; 5] = ["ID", "CLIENT", "CREATED", "FILE", "STATE"];

fn row(download: &Download) -> Vec<String> {
    let standing = match &download.error {
        Some(error) => format!("{}: {}", download.state, error.code),
        None => text::standing(download),
    };
    vec![
        download.id.to_string(),
        download.client_id.to_string(),
        download.created_at.to_string(),
        download.file_path.clone().unwrap_or_else(|| "-".to_owned()),
        standing,
    ]
}

async fn clients(api: &Api, json: bool) -> Result<(), Failure> {
    let (things, next) = pages(api, "clients", &[], usize::MAX).await?;
    let page = json!({ "clients": things, "next": next });
    if json {
        return text::print(&text::safe_json(&page.to_string()));
    }
    let page: ClientPage = typed(page, "clients")?;
    let unknown = || "-".to_owned();
    let rows: Vec<_> = page
        .clients
        .iter()
        .map(|client| {
            vec![
                client.client_id.to_string(),
                if client.connected { "yes" } else { "no" }.to_owned(),
                text::moment(client.since),
                client.version.clone().unwrap_or_else(unknown),
                client.os.clone().unwrap_or_else(unknown),
                client.host.clone().unwrap_or_else(unknown),
                text::moment(client.token_expires_at),
                text::labels(&client.labels),
            ]
        })
        .collect();
    let head = ["CLIENT", "CONNECTED", "SINCE", "VERSION", "OS", "HOST", "TOKEN EXPIRES", "LABELS"];
    text::print(&text::table(&head, &rows))
}

fn status(reply: &Reply<ClientStatus>, json: bool) -> Result<(), Failure> {
    if json {
        return text::print(&text::safe_json(&reply.text));
    }
    let client = &reply.value;
    let connected = if client.connected { "connected" } else { "not connected" };
    text::print(&format!("{} {connected} since {}", client.client_id, text::moment(client.since)))?;
    text::print(&format!("last seen  {}", text::moment(client.last_seen)))?;
    text::print(&format!("version    {}", text::safe(client.version.as_deref().unwrap_or("-"))))?;
    if let Some(at) = client.clone_suspected_at {
        text::print(&text::clone(at, &client.clone_suspects))?;
    }
    for (name, downloads) in [("current", &client.current), ("recent", &client.recent)] {
        if !downloads.is_empty() {
            let rows: Vec<_> = downloads.iter().map(row).collect();
            text::print(&format!("\n{name} downloads\n{}", text::table(&ROW, &rows)))?;
        }
    }
    Ok(())
}

fn write(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::Input(format!("the request cannot be written: {error}")))
}
