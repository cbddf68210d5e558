-- Most bytes a second that an operator allows a download; none for no limit.
alter table downloads add column max_rate_bytes_per_sec bigint;
