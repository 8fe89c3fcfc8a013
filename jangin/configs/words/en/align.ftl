# What `jangin data align` says.

lag = { $moved } is { $seconds } s behind { $reference }: correlation { $correlation }, { $deviate } standard deviations of unrelated signals; { $agree } of { $episodes } episodes agree by themselves
joined = { $found } of { $episodes } episodes get an outcome: { $columns }
made = { $folder }: made, with the same episodes and the same hold-out; validate it before it is used
charged = What was moved is another recording to the privacy ledger, which cannot know that it was charged before: align before the first training.
