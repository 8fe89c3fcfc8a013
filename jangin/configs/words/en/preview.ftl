# What `jangin data preview` says.

stays = The page shows records: it stays at the site.
