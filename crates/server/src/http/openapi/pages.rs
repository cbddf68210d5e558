//! What only each page knows of itself: what it takes, what it answers, and how it can fail.

use hoist_wire::audit::AuditPage;
use hoist_wire::identity::{ENROLL_PATH, EnrollReply, EnrollRequest, NONCE_PATH, NonceReply};
use hoist_wire::operators::{ClientLabels, Ended, SessionList, WhoAmI};
use hoist_wire::rest::{
    Client, ClientPage, ClientStatus, Download, DownloadChange, DownloadPage, DownloadRequest, TokenReply,
    TokenRequest,
};
use hoist_wire::{ErrorCode, LINK_PATH, PROTOCOL};
use serde_json::json;

use super::super::routes::Route;
use super::super::{clients, downloads, probes, sessions, trail};
use super::operation::Operation;
use super::schemas::Schemas;

use ErrorCode::{
    AlreadyFinal, BucketUnavailable, ClockSkew, ConnectsTooOften, IdempotencyMismatch, InvalidPath,
    InvalidRequest, LinkTaken, NotCompleted, NotReady, QueueFull, StaleNonce, StoreUnavailable, TooLate,
    UnknownClient,
};

/// The pages that take the id of a download.
const OF_A_DOWNLOAD: &[&str] = &["showDownload", "changeDownload", "fetchFile", "cancelDownload"];

/// Describes a page; none where nobody has written down what it does.
pub(super) fn describe(route: &Route, schemas: &mut Schemas) -> Option<Operation> {
    let page = Operation::new(route);
    let page = match (route.method.as_str(), route.path) {
        ("POST", "/trigger-download/{client_id}") => ask_for(page, schemas),
        ("GET", "/status/{client_id}") => page
            .named("showClient")
            .answers::<ClientStatus>(200, "the client, and its downloads", schemas)
            .fails(&[UnknownClient, StoreUnavailable]),
        ("GET", "/clients") => page
            .named("listClients")
            .asks::<clients::ListQuery>(schemas)
            .labels()
            .answers::<ClientPage>(200, "clients by id; `next` is the `cursor` of the page after", schemas)
            .fails(&[StoreUnavailable]),
        ("POST", "/clients/{client_id}/revoke") => page
            .named("revokeClient")
            .answers::<Client>(200, "it gets in no more, until it has a new token or enrols again", schemas)
            .fails(&[StoreUnavailable]),
        ("PUT", "/clients/{client_id}/labels") => page
            .named("labelClient")
            .takes_labels()
            .answers::<ClientLabels>(200, "the client has these labels, and no others", schemas)
            .fails(&[StoreUnavailable]),
        ("POST", "/session") => page
            .named("openSession")
            .answers::<WhoAmI>(201, "a session: its cookie is set, and `csrf` is what changes need", schemas)
            .with(201, "Set-Cookie", "the session")
            .fails(&[StoreUnavailable]),
        ("GET", "/session") => {
            page.named("whoAmI").answers::<WhoAmI>(200, "who asks", schemas).fails(&[StoreUnavailable])
        }
        ("DELETE", "/session") => {
            page.named("closeSession").answers_bare(204, "the session is over").fails(&[StoreUnavailable])
        }
        ("GET", "/sessions") => page
            .named("listSessions")
            .asks::<sessions::OfOperator>(schemas)
            .answers::<SessionList>(200, "the sessions of an operator, oldest first", schemas)
            .fails(&[StoreUnavailable]),
        ("DELETE", "/sessions") => page
            .named("endSessions")
            .asks::<sessions::OfOperator>(schemas)
            .answers::<Ended>(200, "they are over; the operator's tokens stay good", schemas)
            .fails(&[StoreUnavailable]),
        ("POST", "/operators/{name}/revoke") => page
            .named("revokeOperator")
            .answers::<Ended>(200, "what was made until now is refused; a new token is good", schemas)
            .fails(&[InvalidRequest, StoreUnavailable]),
        ("GET", "/audit") => page
            .named("readAudit")
            .asks::<trail::TrailQuery>(schemas)
            .answers::<AuditPage>(
                200,
                "lines of the trail; `next` is the `cursor` of the page after",
                schemas,
            )
            .fails(&[StoreUnavailable]),
        ("GET", "/downloads") => page
            .named("listDownloads")
            .asks::<downloads::ListQuery>(schemas)
            .labels()
            .answers::<DownloadPage>(
                200,
                "downloads, newest first; `next` is the `cursor` of the page after",
                schemas,
            )
            .fails(&[StoreUnavailable]),
        ("GET", "/downloads/{id}") => page
            .named("showDownload")
            .answers::<Download>(200, "the download", schemas)
            .fails(&[StoreUnavailable]),
        ("PATCH", "/downloads/{id}") => page
            .named("changeDownload")
            .takes::<DownloadChange>(true, schemas)
            .answers::<Download>(200, "the download as it is now", schemas)
            .fails(&[AlreadyFinal, StoreUnavailable]),
        ("DELETE", "/downloads/{id}") => page
            .named("cancelDownload")
            .answers::<Download>(200, "it is cancelled, now or before", schemas)
            .fails(&[AlreadyFinal, TooLate, StoreUnavailable]),
        ("GET", "/downloads/{id}/file") => page
            .named("fetchFile")
            .answers_bare(307, "the object is there")
            .with(307, "Location", "a presigned GET; send no token there")
            .fails(&[NotCompleted, BucketUnavailable, StoreUnavailable]),
        ("POST", "/tokens") => page
            .named("makeToken")
            .takes::<TokenRequest>(true, schemas)
            .answers::<TokenReply>(201, "the token, which is shown this once", schemas)
            .fails(&[ErrorCode::InvalidClientId, StoreUnavailable]),
        ("GET", "/health") => {
            page.named("health").answers::<probes::Health>(200, "the process answers", schemas)
        }
        ("GET", "/ready") => page
            .named("ready")
            .answers::<probes::Ready>(200, "the server can do its work", schemas)
            .answers::<probes::Ready>(
                503,
                "it cannot, and why; `not_ready` when it was too busy to say",
                schemas,
            ),
        ("GET", "/openapi.json") => page
            .named("openapi")
            .answers_as(200, "this document", "application/json", &json!({ "type": "object" }))
            .with(200, "ETag", "names this version of it")
            .answers_bare(304, "it is as `If-None-Match` says"),
        ("GET", "/") => {
            page.named("index").answers_as(200, "the pages", "text/plain", &json!({ "type": "string" }))
        }
        ("GET", LINK_PATH) => page
            .named("connect")
            .answers_bare(101, &format!("a link: a WebSocket that speaks `{PROTOCOL}` (docs/protocol.md)"))
            .fails(&[
                InvalidRequest,
                ClockSkew,
                StaleNonce,
                NotReady,
                ConnectsTooOften,
                LinkTaken,
                StoreUnavailable,
            ]),
        ("GET", NONCE_PATH) => {
            page.named("nonce").answers::<NonceReply>(200, "what an agent's next proof carries", schemas)
        }
        ("POST", ENROLL_PATH) => page
            .named("enroll")
            .takes::<EnrollRequest>(true, schemas)
            .answers::<EnrollReply>(200, "the client has this key, and no other", schemas)
            .fails(&[BucketUnavailable, StoreUnavailable]),
        _ => return None,
    };
    Some(page)
}

fn ask_for(page: Operation, schemas: &mut Schemas) -> Operation {
    let key = json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$" });
    page.named("requestDownload")
        .header(
            "Idempotency-Key",
            "repeated within 24 hours, with the same request, it gives the same download",
            &key,
        )
        .takes::<DownloadRequest>(false, schemas)
        .answers::<Download>(202, "the request is on disk, whatever becomes of the server", schemas)
        .with(202, "Location", "the download's page")
        .leads_to(202, OF_A_DOWNLOAD, "id", "$response.body#/id")
        .fails(&[UnknownClient, InvalidPath, IdempotencyMismatch, QueueFull, StoreUnavailable])
}
