-- The public half of a client's own key, in base64url; none for one that shows tokens. Whoever has one shows no tokens.
alter table clients add column public_key text;
alter table clients add column enrolled_at bigint;
alter table clients add column revoked_at bigint;
-- When key or revocation last changed: what every node looks for.
alter table clients add column identity_changed_at bigint;
-- When the nonce was made that opened the newest link of a client with a key: none that is older opens another.
alter table clients add column nonce_at bigint;
-- Names the secret that the newest token was signed with.
alter table clients add column token_kid text;

create index clients_by_identity_change on clients (identity_changed_at, client_id) where identity_changed_at is not null;

-- One-time tokens: of each its SHA-256, for whom it is, and which key took it.
create table enrolments (
    token_hash text primary key not null,
    client_id text not null,
    created_at bigint not null,
    expires_at bigint not null,
    used_at bigint,
    public_key text
);

create index enrolments_of_client on enrolments (client_id);
create index enrolments_by_end on enrolments (expires_at);
