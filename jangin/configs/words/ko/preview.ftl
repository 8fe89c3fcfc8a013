# `jangin data preview`가 하는 말.

stays = 페이지에 기록이 그대로 보입니다. 사업장 밖으로 내보내지 마십시오.
