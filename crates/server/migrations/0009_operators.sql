-- Labels that an admin gave a client; it need not have been seen.
create table labels (
    client_id text not null,
    name text not null,
    value text not null,
    primary key (client_id, name)
);

create index labels_by_value on labels (name, value, client_id);

-- Sessions of browsers. What the cookie says is not here, only its SHA-256.
create table sessions (
    cookie_sha256 text primary key not null,
    operator text not null,
    scopes text not null,
    reach text,
    -- The token that opened it, and when that was made, in seconds.
    token_id text not null,
    token_made_secs bigint not null,
    created_at bigint not null,
    last_used_at bigint not null,
    expires_at bigint not null
);

create index sessions_of_operator on sessions (operator, created_at);
create index sessions_by_end on sessions (expires_at);
create index sessions_by_use on sessions (last_used_at);

-- Tokens of an operator that were made then or before are refused; in seconds.
create table revoked_operators (
    operator text primary key not null,
    tokens_not_before_secs bigint not null
);
