-- Who is on the link, as `Hoist-Instance` names it; none for an agent that names nothing.
alter table clients add column instance text;

-- When an agent was last refused because another one had the link and answered, and who the two were.
alter table clients add column clone_suspected_at bigint;
alter table clients add column clone_linked text;
alter table clients add column clone_linked_host text;
alter table clients add column clone_refused text;
