-- 1 where the request does not say what to do when the file changes: then `on_change` is what the site wants.
alter table downloads add column site_chooses bigint not null default 0;
