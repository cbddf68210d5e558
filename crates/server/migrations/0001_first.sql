-- Times are milliseconds since 1970 in BIGINT; unsigned 64-bit values that may use the top bit are text.

create table clients (
    client_id text primary key not null,
    link_seq bigint not null,
    connected_link bigint,
    since bigint,
    last_seen bigint,
    agent_version text,
    os text,
    host text,
    facts text not null,
    token_expires_at bigint,
    tokens_not_before bigint not null
);

create table downloads (
    id text primary key not null,
    client_id text not null,
    version bigint not null,
    state text not null,
    -- 1 until the state is final: what partial indexes and their queries agree on.
    is_open bigint not null,
    reason_code text,
    reason_message text,
    reason_since bigint,
    next_at bigint,
    attempt bigint not null,
    link bigint,
    changed_passes bigint not null,
    on_change text not null,
    expires_at bigint not null,
    size_bytes bigint,
    part_size_bytes bigint,
    checksum text,
    crc64nvme text,
    absent_since bigint,
    proof text,
    error_code text,
    error_message text,
    file_path text,
    found_path text,
    file_name text,
    modified_ms bigint,
    object_key text,
    write_token text not null,
    metadata text not null,
    requested_by text not null,
    stored_bytes bigint not null,
    created_at bigint not null,
    started_at bigint,
    updated_at bigint not null,
    finished_at bigint
);

create index downloads_of_client on downloads (client_id, id);
-- What is not final is little, however many downloads the table holds.
create index downloads_open on downloads (client_id, id) where is_open = 1;
create index downloads_by_deadline on downloads (expires_at) where is_open = 1;
create index downloads_by_state on downloads (state, id);

-- The confirmed parts of the newest attempt that had any, as one compact value.
create table parts (
    download_id text primary key not null,
    attempt bigint not null,
    parts blob not null
);

-- The memory of what we own in the bucket: a row stands here before the upload is created.
create table uploads (
    upload_row text primary key not null,
    download_id text not null,
    object_key text not null,
    multipart_id text,
    status text not null,
    aborted_once bigint not null,
    next_check_at bigint not null
);

create index uploads_of_download on uploads (download_id);
create index uploads_to_check on uploads (next_check_at) where status = 'aborting';

create table idempotency (
    operator text not null,
    idempotency_key text not null,
    body_hash text not null,
    download_id text not null,
    created_at bigint not null,
    primary key (operator, idempotency_key)
);

create index idempotency_by_age on idempotency (created_at);

create table settings (
    name text primary key not null,
    value text not null
);
