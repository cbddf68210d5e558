-- How often storage has contradicted what the client said that it holds; at the limit the download fails.
alter table downloads add column contradicted bigint not null default 0;
