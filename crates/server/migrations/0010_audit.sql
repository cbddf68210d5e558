-- The audit trail: one chain for each node, in which a line holds the hash of the one before it.
create table audit (
    node text not null,
    seq bigint not null,
    at bigint not null,
    action text not null,
    who text,
    token text,
    from_address text,
    subject text not null,
    status bigint not null,
    code text,
    detail text,
    count bigint not null,
    prev text not null,
    hash text not null,
    primary key (node, seq)
);

-- Against accidents. Whoever means harm drops it, and is found by the chain.
create trigger audit_is_append_only before update on audit begin
    select raise(abort, 'the audit trail is only ever appended to');
end;

-- What was about to be done. A row that is still here when a server starts was never seen to end.
create table audit_intents (
    intent text primary key not null,
    node text not null,
    at bigint not null,
    action text not null,
    who text,
    token text,
    from_address text,
    subject text not null,
    detail text
);

-- The last line of each chain that retention has cut.
create table audit_cuts (
    node text primary key not null,
    seq bigint not null,
    hash text not null,
    at bigint not null
);

-- What retention looks for.
create index downloads_by_end on downloads (finished_at) where is_open = 0;
